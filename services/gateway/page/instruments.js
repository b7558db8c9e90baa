/** The list of instruments: price, trade state and a sparkline of the last hour, broken where minutes are missing. */

import { SIGN_OF, age, arrow, drawn, figure, node, say, tone } from "./format.js";
import { MINUTE_US } from "./store.js";
import { lagOf, levelOf } from "./feed.js";

const WIDTH = 64;
const HEIGHT = 28;
const MINUTES = 60;

export class Instruments {
  /** chosen(name): the viewer chose an instrument. */
  constructor(chosen) {
    this.list = document.getElementById("instruments");
    this.items = new Map();
    this.list.addEventListener("click", (event) => {
      const item = event.target.closest("[role=option]");
      if (item) chosen(item.dataset.name);
    });
  }

  show(store) {
    document.getElementById("instruments-empty").hidden = store.instruments.size > 0;
    const names = [...store.instruments.keys()].sort();
    if (names.length !== this.items.size) this.build(names);
    for (const [name, item] of this.items) this.fill(item, store.instruments.get(name), store);
  }

  build(names) {
    this.items = new Map(names.map((name, at) => [name, this.item(name, at)]));
    this.list.replaceChildren(...[...this.items.values()].map((item) => item.root));
  }

  item(name, at) {
    const [exchange, symbol] = name.split(":");
    const parts = { price: node("span", "price"), state: node("span", "state"), age: node("span", "age"), line: drawn("path", { fill: "none" }) };
    const spark = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "spark", "aria-hidden": "true", preserveAspectRatio: "none" });
    spark.append(parts.line);
    const lines = [[node("b", "", symbol), parts.age], [node("small", "", exchange), parts.price], [parts.state, spark]];
    const root = node("li", "", ...lines.map((line) => node("span", "line", ...line)));
    root.id = `instrument-${at}`;
    root.dataset.name = name;
    root.setAttribute("role", "option");
    return { root, ...parts };
  }

  fill(item, one, store) {
    const chosen = one.name === store.chosen;
    if (item.root.getAttribute("aria-selected") !== String(chosen)) {
      item.root.setAttribute("aria-selected", String(chosen));
      if (chosen) {
        this.list.setAttribute("aria-activedescendant", item.root.id);
        item.root.scrollIntoView({ block: "nearest", inline: "nearest" });
      }
    }
    say(item.price, one.price === null ? "no trades yet" : figure(one.price, one.digits));
    item.price.className = one.price === null ? "price empty" : "price";
    const sign = SIGN_OF[one.state] ?? 0;
    say(item.state, one.state ? [arrow(sign), one.state, one.score === null ? "" : figure(one.score, 0, true)].join(" ").trim() : "no state yet");
    item.state.className = `state ${one.state ? tone(sign) : "empty"}`;
    const lag = lagOf(one, store);
    say(item.age, one.removed ? "no longer fed" : lag === null ? "" : `${age(lag)} ago`);
    item.age.className = `age ${levelOf(one, lag)}`;
    const [path, change] = sparkline(one.minutes, store.now());
    if (item.path !== path) item.line.setAttribute("d", (item.path = path));
    item.line.setAttribute("class", tone(change));
  }
}

/** Return the path of the last hour's prices, and how much they changed. */
function sparkline(minutes, now_us) {
  const known = [...minutes].sort(([one], [other]) => one - other);
  if (!known.length) return ["", 0];
  const newest = Math.max(known.at(-1)[0], Math.min(Math.floor(now_us / MINUTE_US), known.at(-1)[0] + MINUTES / 2));
  const shown = known.filter(([minute]) => minute > newest - MINUTES);
  const prices = shown.map(([, price]) => price);
  const [low, high] = [Math.min(...prices), Math.max(...prices)];
  const place = ([minute, price]) => {
    const x = WIDTH - 2 - ((newest - minute) / (MINUTES - 1)) * (WIDTH - 4);
    const y = high > low ? HEIGHT - 2 - ((price - low) / (high - low)) * (HEIGHT - 4) : HEIGHT / 2;
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  };
  const path = shown.map((point, at) => `${at && point[0] === shown[at - 1][0] + 1 ? "L" : "M"}${place(point)}`).join("");
  return [path, prices.at(-1) - prices[0]];
}
