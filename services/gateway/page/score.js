/** The score of the last closed minute, its place from -5 to +5, the five votes with what was compared, and the trade state. */

import { NONE, arrow, badge, clock, empty, figure, node, put, table, tone, units } from "./format.js";
import { MINUTE_US } from "./store.js";

export function show(element, store) {
  const bars = store.barsOf(MINUTE_US);
  const [before, bar] = [bars.at(-2), bars.at(-1)];
  if (!bar) {
    put(element, empty("No minute has closed yet."));
    return;
  }
  const digits = store.instruments.get(store.chosen).digits;
  const votes = votesOf(bar, before, digits, units(store.chosen)).map(([name, vote, why]) => [name, cast(vote), why]);
  const minute = node("p", "quiet", `minute from ${clock(bar.open_us)} UTC${bar.complete ? "" : ", incomplete: data is missing in it"}`);
  put(element, head(bar), minute, table("Votes of the score", ["vote", "#", "why"], votes));
}

function head(bar) {
  const score = bar.values?.score;
  const state = bar.state ? badge(bar.state) : "";
  if (score === undefined) return node("p", "score", node("span", "empty", "no score yet: it needs all five votes"), state);
  const number = node("span", `number ${tone(score)}`, figure(score, 0, true));
  return node("div", "score", number, meter(score), state);
}

/** Return eleven steps from -5 to +5, with those that open a position marked. */
function meter(score) {
  const steps = Array.from({ length: 11 }, (_, at) => at - 5).map((step) => {
    const reached = step !== 0 && Math.sign(step) === Math.sign(score) && Math.abs(step) <= Math.abs(score);
    return node("i", `${reached ? tone(step) : ""} ${Math.abs(step) >= 4 ? "enters" : ""} ${step === 0 ? "zero" : ""}`);
  });
  const made = node("span", "meter", ...steps);
  made.setAttribute("aria-hidden", "true");
  return made;
}

function cast(vote) {
  if (vote === undefined) return node("span", "empty", "not yet");
  return node("span", tone(vote), `${arrow(vote)} ${figure(vote, 0, true)}`);
}

/** Return name, vote and comparison, as core/operators/score.py makes them. */
function votesOf(bar, before, digits, { base }) {
  const values = bar.values ?? {};
  const previous = before && before.open_us + before.window_us === bar.open_us ? before.values?.cvd : undefined;
  return [
    ["VWAP", values.vote_vwap, against(`close ${figure(bar.close, digits)}`, values.vote_vwap, figure(values.vwap, digits))],
    ["OFI", values.vote_ofi, values.ofi === undefined ? "no quotes yet" : `order flow ${figure(values.ofi, 2, true)} ${base}`],
    ["CVD", values.vote_cvd, `${figure(values.cvd, 2, true)} ${base}, was ${figure(previous, 2, true)}`],
    ["EMA", values.vote_ema, against(`9: ${figure(values.ema_9, digits)}`, values.vote_ema, `20: ${figure(values.ema_20, digits)}`)],
    ["RSI", values.vote_rsi, values.rsi_14 === undefined ? "needs 15 minutes" : against(figure(values.rsi_14, 1), values.vote_rsi, "50")],
  ];
}

/** Return both sides of a comparison, with the word that the vote says. */
function against(one, vote, other) {
  return `${one} ${vote === undefined ? NONE : vote > 0 ? "above" : vote < 0 ? "below" : "equals"} ${other}`;
}
