/**
 * The rows of a chart: one for each window of the time axis, whether there is a bar or not, so that missing time is seen.
 *
 * A window of a minute or more without trades is published flat, so one that is not there is missing. A shorter one may just have
 * been quiet: it is missing only where a gap says so.
 */

import { MINUTE_US } from "./store.js";

const AXIS_LIMIT = 3_000; // windows; what lies before is left out
const TAIL_LIMIT = 30; // windows without a bar behind the last one: a feed that has long ended does not push its bars away

/**
 * Return rows {open_us, bar, forming, missing, after}, oldest first; bar is null where there is none, missing "" where nothing is,
 * after says that the row before lacks data.
 *
 * bars: of one window, oldest first; candle: the forming one or null; gaps: in any order; a gap with to_us null lasts until now_us.
 */
export function rowsOf(window_us, bars, candle, gaps, now_us) {
  const found = new Map(bars.map((bar) => [bar.open_us, bar]));
  if (candle && !found.has(candle.open_us)) found.set(candle.open_us, candle);
  if (!found.size) return [];
  const last = Math.max(...found.keys());
  const end = Math.max(last, Math.min(tailEnd(window_us, gaps, now_us), last + TAIL_LIMIT * window_us));
  const first = Math.max(Math.min(...found.keys()), end - AXIS_LIMIT * window_us);
  const spans = gaps.map((gap) => [gap.from_us, gap.to_us ?? now_us, gap.reason]).filter(([, to]) => to >= first);
  const rows = [];
  for (let open_us = first; open_us <= end; open_us += window_us) {
    const bar = found.get(open_us) ?? null;
    const after = !!rows.at(-1)?.missing;
    rows.push({ open_us, bar, forming: bar !== null && bar === candle, missing: missing(open_us, window_us, bar, spans, last), after });
  }
  return rows;
}

/** Return where the axis must reach: a gap that lasts is shown to now. */
function tailEnd(window_us, gaps, now_us) {
  const ends = gaps.map((gap) => (gap.to_us === null ? now_us : gap.to_us - 1));
  return Math.floor(Math.max(0, ...ends) / window_us) * window_us;
}

/** Return why data of a window is missing, "" if none is known to be. */
function missing(open_us, window_us, bar, spans, last) {
  const touching = spans.find(([from, to]) => from < open_us + window_us && (to > open_us || (from === to && from === open_us)));
  if (touching) return touching[2];
  if (bar) return bar.complete ? "" : "incomplete";
  return window_us >= MINUTE_US && open_us < last ? "no bar" : "";
}

/** Return the stretches of missing data: [{from_us, to_us, reasons}]. */
export function stretches(rows, window_us) {
  const found = [];
  for (const row of rows.filter((row) => row.missing)) {
    const before = found.at(-1);
    if (before && before.to_us === row.open_us) {
      before.to_us += window_us;
      before.reasons.add(row.missing);
    } else {
      found.push({ from_us: row.open_us, to_us: row.open_us + window_us, reasons: new Set([row.missing]) });
    }
  }
  return found;
}
