/** The book: cumulated size by price, bids to the left and asks to the right, and the best levels of each side. */

import { age, drawn, empty, figure, node, put, say, size, table, units } from "./format.js";

const LEVELS = 8;
const WIDTH = 300;
const HEIGHT = 84;
const OLD_SECONDS = 5;

export function show(element, store) {
  const { book } = store;
  const old = book ? (store.now() - book.received_us) / 1e6 : null;
  say(document.getElementById("depth-age"), old !== null && old > OLD_SECONDS ? `▲ ${age(old)} old` : "");
  if (!book || (!book.bids.length && !book.asks.length)) {
    put(element, empty(book ? "The book is empty." : "No book has come yet."));
    return;
  }
  const digits = store.instruments.get(store.chosen).digits;
  const of = units(store.chosen);
  put(element, summary(book, digits, of), curve(book), ends(book, digits), ladder(book, digits, of));
}

function summary({ bids, asks }, digits, { base, quote }) {
  const [bought, sold] = [total(bids), total(asks)];
  const spread = bids.length && asks.length ? `spread ${figure(asks[0][0] - bids[0][0], digits)} ${quote}` : "one side is empty";
  const share = bought + sold > 0 ? figure((100 * bought) / (bought + sold), 0) : "–";
  return node(
    "p", "quiet sums", node("span", "", spread), node("span", "up", `bids ${size(bought)} ${base}`), node("span", "down", `asks ${size(sold)} ${base}`),
    node("span", "", `${share} % bids`),
  );
}

/** Name the prices at the ends of the curve. */
function ends({ bids, asks }, digits) {
  const [low, high] = [bids.at(-1) ?? asks[0], asks.at(-1) ?? bids[0]];
  return node("p", "quiet ends", node("span", "", figure(low[0], digits)), node("span", "", "size up to each price"), node("span", "", figure(high[0], digits)));
}

/** Draw cumulated sizes as two staircases that meet in the middle, on one scale. */
function curve({ bids, asks }) {
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "curve", preserveAspectRatio: "none", "aria-hidden": "true" });
  const prices = [...bids, ...asks].map(([price]) => price);
  const [low, high] = [Math.min(...prices), Math.max(...prices)];
  const most = Math.max(total(bids), total(asks)) || 1;
  const x = (price) => (high > low ? ((price - low) / (high - low)) * WIDTH : WIDTH / 2);
  for (const [levels, name] of [[bids, "up"], [asks, "down"]]) {
    if (!levels.length) continue;
    let [sum, path] = [0, `M${x(levels[0][0])} ${HEIGHT}`];
    for (const [price, size] of levels) {
      path += `H${x(price).toFixed(1)}`;
      sum += size;
      path += `V${(HEIGHT - (sum / most) * (HEIGHT - 4)).toFixed(1)}`;
    }
    path += `H${name === "up" ? 0 : WIDTH}V${HEIGHT}Z`;
    svg.append(drawn("path", { d: path, class: name }));
  }
  return svg;
}

function ladder({ bids, asks }, digits, { base }) {
  const rows = Array.from({ length: Math.min(LEVELS, Math.max(bids.length, asks.length)) }, (_, at) => [
    ...side(bids[at], digits, "up").reverse(),
    ...side(asks[at], digits, "down"),
  ]);
  return table("Best levels of the book", [`#${base}`, "#bid", "#ask", `#${base}`], rows);
}

function side(level, digits, name) {
  return level ? [node("span", name, figure(level[0], digits)), size(level[1])] : ["–", "–"];
}

function total(levels) {
  return levels.reduce((sum, [, size]) => sum + size, 0);
}
