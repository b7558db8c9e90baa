/** Numbers, times and elements as the page shows them. All times are microseconds since 1970 UTC. */

export const NONE = "–"; // what is not known is never shown as 0
const formats = new Map();

/** Return a number with so many digits, "–" where there is none. signed: with its sign, and 0 without. */
export function figure(value, digits = 2, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(Number(value))) return NONE;
  if (!formats.has(digits)) {
    formats.set(digits, new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  }
  const text = formats.get(digits).format(Math.abs(value));
  if (!/[1-9]/.test(text)) return text;
  return (value < 0 ? "−" : signed ? "+" : "") + text;
}

/** Return how many digits a price has behind the point, at most 8. */
export function digitsOf(price) {
  const text = String(price);
  if (text.includes("e")) return 8;
  return Math.min(8, (text.split(".")[1] ?? "").length);
}

/** Return a size with digits to its magnitude. */
export function size(value) {
  const digits = value >= 1000 ? 0 : value >= 10 ? 2 : value >= 0.01 ? 4 : 6;
  return figure(value, digits);
}

/** Return an age: 0.4 s, 12 s, 3 min, 2 h. */
export function age(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return NONE;
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h`;
}

/** Return HH:MM:SS. */
export function clock(us) {
  return new Date(us / 1000).toISOString().slice(11, 19);
}

/** Return what sizes and prices of an instrument are counted in: BTC and USDT of binance:BTC-USDT-PERP. */
export function units(name) {
  const [base, quote] = name.slice(name.indexOf(":") + 1).split("-");
  return { base, quote: quote ?? "" };
}

/** Return an instrument's symbol and exchange as one node. */
export function titled(name) {
  const [exchange, symbol] = name.split(":");
  return node("span", "titled", symbol, " ", node("small", "", exchange));
}

const REASONS = {
  disconnected: "the connection was lost",
  sequence: "messages were skipped",
  checksum: "the book did not match",
  backpressure: "we did not keep up",
  restart: "the feed was started again",
  removed: "no longer fed",
  incomplete: "incomplete",
  "no bar": "no bar was made",
};

/** Return why data is missing, in words. */
export function reasonOf(reason) {
  return REASONS[reason] ?? reason;
}

/** Return ▲, ▼ or ●, so that colour is never the only cue. */
export function arrow(value) {
  return value > 0 ? "▲" : value < 0 ? "▼" : "●";
}

/** Return the class that colours a value by its sign. */
export function tone(value) {
  return value > 0 ? "up" : value < 0 ? "down" : "even";
}

export const SIGN_OF = { LONG: 1, SHORT: -1, BUY: 1, SELL: -1, IDLE: 0 };

/** Return a state or side with its sign and colour. */
export function badge(word) {
  return node("span", `badge ${tone(SIGN_OF[word] ?? 0)}`, `${arrow(SIGN_OF[word] ?? 0)} ${word}`);
}

/** Return an element. Children are nodes or text; text is never read as markup. */
export function node(name, className = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Return an SVG element. */
export function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Return a table. columns: names, "#" before those of numbers; rows: lists of nodes or text. */
export function table(caption, columns, rows) {
  const numeric = columns.map((name) => name.startsWith("#"));
  const head = node("tr", "", ...columns.map((name, at) => {
    const cell = node("th", numeric[at] ? "number" : "", name.replace("#", ""));
    cell.scope = "col";
    return cell;
  }));
  const body = rows.map((row) => node("tr", "", ...row.map((cell, at) => node("td", numeric[at] ? "number" : "", cell))));
  return node("table", "", node("caption", "hidden", caption), node("thead", "", head), node("tbody", "", ...body));
}

/** Return a sentence in place of what is not there yet. */
export function empty(text) {
  return node("p", "empty", text);
}

/**
 * Give an element children, changing only what differs from those that it has: drawn many times a second, a table keeps its cells,
 * and with them what is selected in it and where a screen reader is.
 */
export function put(element, ...children) {
  merge(element, node(element.nodeName, "", ...children));
}

function merge(old, made) {
  const [before, after] = [[...old.childNodes], [...made.childNodes]];
  if (before.length !== after.length) {
    old.replaceChildren(...after);
    return;
  }
  before.forEach((one, at) => alike(one, after[at]));
}

/** Make one node like another. */
function alike(old, made) {
  if (old.nodeName !== made.nodeName) {
    old.replaceWith(made);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== made.data) old.data = made.data;
  } else {
    for (const { name } of [...old.attributes]) if (!made.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    merge(old, made);
  }
}

/** Set an element's text, leaving it alone where nothing changed: a selection and a screen reader stay where they are. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
