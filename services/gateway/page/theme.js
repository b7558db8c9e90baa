/** Dark or light, and which two colours tell buy from sell. The system's wish holds until the viewer says otherwise. */

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const probe = document.createElement("span");

/** Restore what was chosen, wire the buttons, and call `changed` whenever colours are others. */
export function start(changed) {
  probe.hidden = true;
  document.body.append(probe);
  for (const name of ["theme", "colours"]) {
    const kept = localStorage.getItem(name);
    if (kept) root.dataset[name] = kept;
  }
  tell();
  dark.addEventListener("change", () => { tell(); changed(); });
  document.getElementById("theme").addEventListener("click", () => { turn(changed); });
  document.getElementById("colours").addEventListener("click", () => { swap(changed); });
}

/** Go from dark to light or back. */
export function turn(changed) {
  keep("theme", isDark() ? "light" : "dark");
  changed();
}

/** Go from green and red to blue and orange, or back. */
export function swap(changed) {
  keep("colours", root.dataset.colours === "safe" ? "usual" : "safe");
  changed();
}

/** Return a colour of style.css as the canvas wants it. */
export function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
}

function keep(name, value) {
  root.dataset[name] = value;
  localStorage.setItem(name, value);
  tell();
}

function tell() {
  document.getElementById("theme").textContent = isDark() ? "Light" : "Dark";
  document.getElementById("colours").setAttribute("aria-pressed", String(root.dataset.colours === "safe"));
}
