/** The health of the feed: how old each instrument's last message is, and what is missing. */

import { age, clock, empty, node, put, reasonOf, table, titled } from "./format.js";

const LATE_SECONDS = 5; // from which on entries are refused as stale
const SILENT_SECONDS = 30;
const BEHIND_SECONDS = 10; // from the venue's time to ours: the past is being played, or clocks differ
const WORDS = { good: "● on time", late: "▲ late", silent: "■ silent", unknown: "no message yet", removed: "no longer fed" };

/** Return the age of an instrument's last message in seconds, null before the first. */
export function lagOf(one, store) {
  return one.received_us ? Math.max(0, (store.now() - one.received_us) / 1e6) : null;
}

/** Return how an age is judged: good, late, silent, unknown or removed. */
export function levelOf(one, lag) {
  if (one.removed) return "removed";
  if (lag === null) return "unknown";
  return lag < LATE_SECONDS ? "good" : lag < SILENT_SECONDS ? "late" : "silent";
}

/** Return what is to be known of an instrument's last message beside its price: how old it is, and whether it tells of the past. */
export function freshness(one, store) {
  const lag = lagOf(one, store);
  const level = levelOf(one, lag);
  const text = { good: `${age(lag)} ago`, late: `▲ late: last message ${age(lag)} ago`, silent: `■ silent for ${age(lag)}` }[level] ?? WORDS[level];
  return behind(one) ? [`▲ plays the past: ${clock(one.event_us)}, ${age(one.behind_us / 1e6)} behind`, "late"] : [text, level];
}

function behind(one) {
  return one.behind_us > BEHIND_SECONDS * 1e6;
}

export function show(element, store) {
  const rows = [...store.instruments.values()].sort((one, other) => (one.name < other.name ? -1 : 1)).map((one) => rowOf(one, store));
  const columns = ["instrument", "last message", "feed", "last minute"];
  put(element, rows.length ? node("div", "cards", table("Feed health by instrument", columns, rows)) : empty("Nothing is fed yet."));
}

function rowOf(one, store) {
  const lag = lagOf(one, store);
  const level = levelOf(one, lag);
  const gap = one.lasting[0];
  const of = gap && gap.channel !== "all" ? `${gap.channel}: ` : "";
  const past = behind(one) && level === "good" ? `▲ plays the past: ${clock(one.event_us)}` : "";
  const word = gap && level !== "removed" ? `✕ ${of}${reasonOf(gap.reason)} at ${clock(gap.from_us)}` : past || WORDS[level];
  const minute = one.complete === null || one.complete === undefined ? "–" : one.complete ? "minute complete" : "✕ minute incomplete";
  const ago = lag === null ? "–" : `${age(lag)} ago`;
  return [titled(one.name), ago, node("span", gap ? "silent" : past ? "late" : level, word), node("span", one.complete === false ? "late" : "", minute)];
}
