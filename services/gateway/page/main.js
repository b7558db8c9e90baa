/** Wires the page: the stream fills the store, the store's changes are drawn, keys and the address choose what is shown. */

import * as depth from "./depth.js";
import * as feed from "./feed.js";
import * as score from "./score.js";
import * as theme from "./theme.js";
import { Account, refusals } from "./account.js";
import { Chart } from "./chart.js";
import { arrow, clock, figure, node, put, reasonOf, say, tone, units } from "./format.js";
import { Instruments } from "./instruments.js";
import { stretches } from "./rows.js";
import { MINUTE_US, Store, spark } from "./store.js";
import { Stream, ask } from "./stream.js";

const SECOND_US = 1_000_000;
const FRAMES = { "1s": SECOND_US, "1m": MINUTE_US, "5m": 5 * MINUTE_US, "15m": 15 * MINUTE_US, "1h": 60 * MINUTE_US };
const COMMON = ["prices", "health", "gaps", "transitions", "portfolio", "breakers", "strategies", "refusals"];
const OWN = ["candles", "books", "bars"];
const HISTORY_BARS = 300;
const DRAW_MS = 100; // between drawings: the stream's own pace
const AGES_MS = 500; // ages grow without a message
const SUMMARY_MS = 5_000; // scores and states of instruments that are not chosen
const AGAIN_MS = 3_000; // after an answer that failed
const LOST_MS = 60_000; // how long it is said that values were left out
const at = (id) => document.getElementById(id);

const store = new Store();
let frame = "1m";
let asking = 0; // of the last question for bars; answers to earlier ones come too late
let due = false;
let connection = { state: "connecting", words: "connecting" };
let trouble = ""; // why there is no history
let lostAt = -Infinity; // when values were last left out, and how many until then were told of
let lostBefore = 0;
const chart = new Chart();
const account = new Account(() => later());
const instruments = new Instruments(choose);
const stream = new Stream(told, moved);
stream.follow(COMMON, OWN);

// -- what comes

function told(message) {
  const lost = store.lost;
  const changed = store.take(message);
  if (changed.includes("welcome")) welcomed();
  if (!store.chosen && store.instruments.size) choose(first());
  if (store.lost !== lost) {
    if (performance.now() - lostAt > LOST_MS) lostBefore = lost;
    lostAt = performance.now();
    history(); // what was lost may have been a bar
  }
  later();
}

/** A connection begins: what was missed meanwhile is asked for. */
function welcomed() {
  summaries();
  if (store.chosen) history();
  for (const name of store.instruments.keys()) sparks.push(name);
  nextSpark();
}

function moved(state, words) {
  connection = { state, words, since_us: state === "live" ? 0 : connection.since_us || (store.ahead_us === null ? 0 : store.now()) };
  tell();
}

/** Ask for the closed bars of what is chosen. Those that come by the stream meanwhile stay. */
async function history() {
  const [number, instrument] = [(asking += 1), store.chosen];
  try {
    const answer = await ask(`v1/bars?instrument=${encodeURIComponent(instrument)}&window=${frame}&limit=${HISTORY_BARS}`);
    if (number !== asking) return;
    store.history(answer.bars);
    trouble = "";
    at("chart").dataset.loaded = `${instrument} ${frame}`;
  } catch (error) {
    if (number !== asking) return;
    trouble = error.message;
    setTimeout(() => { if (number === asking && stream.live) history(); }, AGAIN_MS);
  }
  later();
}

const sparks = []; // names whose last hour is to be asked for, one after the other
let sparking = false;

async function nextSpark() {
  if (sparking || !sparks.length) return;
  sparking = true;
  const name = sparks.shift();
  const answer = await ask(`v1/bars?instrument=${encodeURIComponent(name)}&window=1m&limit=60`).catch(() => ({ bars: [] }));
  const one = store.instrument(name);
  const newer = new Map(one.minutes);
  for (const bar of answer.bars) spark(one, bar.open_us, bar.close);
  for (const [minute, price] of newer) one.minutes.set(minute, price);
  sparking = false;
  later();
  nextSpark();
}

/** Bring scores and states of all instruments up to date. */
async function summaries() {
  if (!stream.live || document.hidden) return;
  const answer = await ask("v1/instruments").catch(() => ({ instruments: [] }));
  for (const line of answer.instruments) {
    const known = store.instruments.has(line.instrument);
    Object.assign(store.instrument(line.instrument), { state: line.state, score: line.score });
    if (!known) sparks.push(line.instrument);
  }
  nextSpark();
  later();
}

// -- what is chosen

function choose(name) {
  if (name === store.chosen) return;
  store.choose(name);
  stream.choose(name);
  chosen();
}

function framed(name) {
  if (name === frame) return;
  frame = name;
  chosen();
}

function chosen() {
  delete at("chart").dataset.loaded;
  trouble = "";
  window.history.replaceState(null, "", `#${store.chosen}/${frame}`);
  chart.clear();
  history();
  later();
}

/** Return instrument and timeframe of the address, undefined where it names none: people write addresses. */
function addressed() {
  let parts = [];
  try {
    parts = decodeURIComponent(location.hash.slice(1)).split("/");
  } catch { /* no text at all */ }
  return { name: store.instruments.has(parts[0]) ? parts[0] : undefined, asked: Object.hasOwn(FRAMES, parts[1]) ? parts[1] : undefined };
}

/** Return the instrument to begin with: the address's, else the first by name. */
function first() {
  return addressed().name ?? [...store.instruments.keys()].sort()[0];
}

/** Show what a changed address names; one that names nothing is put right. */
function readdressed() {
  const { name, asked } = addressed();
  frame = asked ?? frame;
  if (name && name !== store.chosen) choose(name);
  else if (store.chosen) chosen();
}

function step(by) {
  const names = [...store.instruments.keys()].sort();
  if (names.length) choose(names[(names.indexOf(store.chosen) + by + names.length) % names.length]);
}

// -- what is shown

function later() {
  if (due) return;
  due = true;
  setTimeout(() => requestAnimationFrame(draw), DRAW_MS);
}

function draw() {
  due = false;
  instruments.show(store);
  feed.show(at("feed"), store);
  account.show(at("account"), store);
  refusals(at("refusals"), store);
  tell();
  if (!store.chosen) return;
  head();
  score.show(at("score"), store);
  depth.show(at("depth"), store);
  chart.show(store, FRAMES[frame]);
  words();
}

function head() {
  const one = store.instruments.get(store.chosen);
  put(at("chart-title"), `${one.symbol} `, node("small", "", one.exchange));
  if (one.price === null) {
    put(at("price"), node("span", "empty", "no trades yet"));
  } else {
    const moved = node("span", tone(one.moved), arrow(one.moved));
    put(at("price"), moved, ` ${figure(one.price, one.digits)} `, node("small", "", units(one.name).quote));
  }
  const quoted = one.bid !== null && one.ask !== null;
  const spread = quoted ? ((one.ask - one.bid) / ((one.ask + one.bid) / 2)) * 1e4 : null;
  say(at("quote"), quoted ? `bid ${figure(one.bid, one.digits)}, ask ${figure(one.ask, one.digits)}, spread ${figure(spread, 3)} bps` : "no quote");
  const [fresh, level] = feed.freshness(one, store);
  say(at("fresh"), fresh);
  at("fresh").className = level;
  document.title = one.price === null ? "Tapestream" : `${figure(one.price, one.digits)} ${one.symbol} Tapestream`;
  for (const button of at("frames").children) button.setAttribute("aria-pressed", String(button.textContent === frame));
}

/** Say in words what the chart shows, and where data is missing. */
function words() {
  const { rows } = chart;
  const missing = stretches(rows, FRAMES[frame]);
  const last = missing.slice(-3).map(({ from_us, to_us, reasons }) => `${clock(from_us)} to ${clock(to_us)} (${[...reasons].map(reasonOf).join(", ")})`);
  const more = missing.length > last.length ? `${missing.length} stretches, the last ` : "";
  say(at("gaps"), missing.length ? `Data is missing: ${more}${last.join("; ")}` : "");
  at("gaps").dataset.count = missing.length;
  const bar = rows.findLast((row) => row.bar)?.bar;
  say(at("chart-words"), bar ? `${store.chosen}, ${frame}: ${rows.length} windows, last close ${bar.close}. ${at("gaps").textContent}` : "");
  const none = trouble ? `No history: ${trouble}. Asked again soon.` : at("chart").dataset.loaded ? nothing() : "Asking for bars…";
  at("chart-empty").hidden = !!bar;
  say(at("chart-empty"), bar ? "" : none);
}

function nothing() {
  const one = store.instruments.get(store.chosen);
  return one.price === null ? "No trades yet." : `No window of ${frame} has closed yet.`;
}

function tell() {
  const { state, words: why, since_us } = connection;
  const as_of = since_us ? `; values are of ${clock(since_us)}` : "";
  const text = { live: "● connected", connecting: `▲ ${why}${as_of}`, waiting: `✕ disconnected (${why})${as_of}; trying again` }[state];
  say(at("connection"), text);
  at("connection").dataset.state = state;
  const behind = state === "live" && performance.now() - lostAt < LOST_MS;
  say(at("behind"), behind ? `▲ ${store.lost - lostBefore} values were left out: this page did not keep up` : "");
  document.body.classList.toggle("stale", state !== "live" && !!since_us);
}

// -- keys and buttons

const UPRIGHT = { ArrowDown: () => step(1), ArrowUp: () => step(-1) }; // in the list; elsewhere they scroll
const SIDEWAYS = { ArrowRight: () => step(1), ArrowLeft: () => step(-1) }; // there, and where nothing has the focus
const KEYS = {
  t: () => theme.turn(dressed), c: () => theme.swap(dressed), "?": () => at("help").showModal(),
  ...Object.fromEntries(Object.keys(FRAMES).map((name, place) => [String(place + 1), () => framed(name)])),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open || event.target.closest("select, input")) return;
  const inList = !!event.target.closest("#instruments");
  const does = { ...KEYS, ...(inList ? UPRIGHT : {}), ...(inList || event.target === document.body ? SIDEWAYS : {}) };
  if (!Object.hasOwn(does, event.key)) return;
  event.preventDefault();
  does[event.key]();
});

function dressed() {
  chart.dress();
  later();
}

at("frames").append(...Object.keys(FRAMES).map((name, place) => {
  const button = node("button", "", name);
  button.type = "button";
  button.title = `key ${place + 1}`;
  button.addEventListener("click", () => framed(name));
  return button;
}));
at("help-open").addEventListener("click", KEYS["?"]);
frame = addressed().asked ?? frame;
window.addEventListener("hashchange", readdressed);
theme.start(dressed);
chart.dress();
setInterval(later, AGES_MS);
setInterval(summaries, SUMMARY_MS);
