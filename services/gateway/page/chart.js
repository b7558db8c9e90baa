/** The chart: candles with VWAP and trade states, and below them order flow, volume delta and score on the same time axis. */

import {
  CandlestickSeries, ColorType, CrosshairMode, HistogramSeries, LineSeries, createChart, createSeriesMarkers,
} from "./vendor/lightweight-charts-5.2.1/lightweight-charts.js";
import { arrow, clock, figure, node, reasonOf, size, tone, units } from "./format.js";
import { Hatching } from "./hatching.js";
import { rowsOf, stretches } from "./rows.js";
import { MINUTE_US } from "./store.js";
import { colour } from "./theme.js";

const HEIGHTS = [6, 1.5, 1.5, 1.5]; // of the panes, by share
const BAR_PX = 10; // of a bar at first, so that a phone shows fewer and not thinner ones
const LEAST_BARS = 20; // shown at first, however narrow the chart is
const LABEL_PX = 30; // of a marker's score; where they are closer only some are written
const CLEAR = "rgba(0, 0, 0, 0)";
const PANES = [
  { name: "price" },
  { name: "ofi", title: "OFI", told: "order flow imbalance of the window: above 0 is buying pressure", none: "no order flow yet: it needs quotes" },
  { name: "cvd", title: "CVD", told: "cumulated volume delta: bought less sold", none: "no trades yet" },
  { name: "score", title: "Score", told: "-5 to +5", none: "no score yet: it needs all five votes" },
];

export class Chart {
  constructor() {
    this.plot = document.getElementById("plot");
    this.rows = [];
    this.bands = [];
    this.transitions = new Map(); // the last of each bar, by its opening
    this.chart = createChart(this.plot, { autoSize: true, layout: { attributionLogo: false } }); // the foot has notice and link; the logo hid bars
    this.make();
    this.legends = PANES.map(() => document.getElementById("legends").appendChild(node("p")));
    this.chart.subscribeCrosshairMove(({ time }) => { this.pointed = time ?? null; this.legend(); });
    this.chart.timeScale().subscribeVisibleLogicalRangeChange(() => this.label());
    new ResizeObserver(() => this.place()).observe(this.plot);
    this.dress();
  }

  make() {
    const add = (kind, pane, options = {}) => this.chart.addSeries(kind, { priceLineVisible: false, lastValueVisible: false, ...options }, pane);
    this.candles = add(CandlestickSeries, 0, { lastValueVisible: true, priceLineVisible: true });
    this.candles.priceScale().applyOptions({ scaleMargins: { top: 0.16, bottom: 0.06 } }); // room for the legend
    this.vwap = add(LineSeries, 0, { lineWidth: 2, crosshairMarkerVisible: false });
    this.ofi = add(HistogramSeries, 1);
    this.cvd = add(LineSeries, 2, { lineWidth: 2, crosshairMarkerVisible: false });
    const range = () => ({ priceRange: { minValue: -5, maxValue: 5 } });
    this.score = add(HistogramSeries, 3, { autoscaleInfoProvider: range, priceFormat: { type: "price", precision: 0, minMove: 1 } });
    this.markers = createSeriesMarkers(this.candles, [], { zOrder: "top" });
    this.hatchings = this.chart.panes().map((pane, at) => {
      pane.setStretchFactor(HEIGHTS[at]);
      const hatching = new Hatching(() => this.bands, () => colour("gap"));
      pane.attachPrimitive(hatching);
      return hatching;
    });
  }

  /** Take the colours of the theme. */
  dress() {
    const [up, down, line, text] = ["up", "down", "line", "dim"].map(colour);
    this.chart.applyOptions({
      layout: { background: { type: ColorType.Solid, color: colour("panel") }, textColor: text, fontSize: 11, panes: { separatorColor: line } },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      crosshair: { mode: CrosshairMode.Normal },
      rightPriceScale: { borderColor: line, minimumWidth: 72 },
      timeScale: { borderColor: line, timeVisible: true, secondsVisible: true, rightOffset: 4 },
    });
    this.candles.applyOptions({
      upColor: CLEAR, borderUpColor: up, wickUpColor: up, downColor: down, borderDownColor: down, wickDownColor: down, priceLineColor: text,
    });
    this.vwap.applyOptions({ color: colour("vwap") });
    this.cvd.applyOptions({ color: colour("cvd") });
    this.draw(this.rows, true);
  }

  /** Begin anew with another instrument or timeframe. */
  clear() {
    this.rows = [];
    this.transitions = new Map();
    this.fresh = true;
    this.draw([], true);
  }

  /** Show what the store has of the chosen instrument. */
  show(store, window_us) {
    const of = store.instruments.get(store.chosen);
    const gaps = [...of.gaps.values()];
    this.of = of;
    this.window_us = window_us;
    const rows = rowsOf(window_us, store.barsOf(window_us), store.candles.get(window_us) ?? null, gaps, store.now());
    if (of.digits !== this.digits) {
      this.digits = of.digits;
      const priceFormat = { type: "custom", minMove: 10 ** -of.digits, formatter: (price) => figure(price, of.digits) };
      for (const series of [this.candles, this.vwap]) series.applyOptions({ priceFormat });
    }
    this.draw(rows, false);
    this.mark(of, rows);
  }

  /** Bring the series up to date: only the last rows where the others are the same. */
  draw(rows, all) {
    const old = this.rows;
    this.rows = rows;
    const changed = all ? 0 : firstChange(old, rows);
    const last = old.at(-1)?.open_us ?? Infinity; // an update may change the last row or add some, and takes none back
    if (all || rows.length < old.length || rows[changed]?.open_us < last) {
      for (const [series, point] of this.points()) series.setData(rows.map(point));
    } else {
      for (const [series, point] of this.points()) for (const row of rows.slice(changed)) series.update(point(row));
    }
    if (rows.length && this.fresh) {
      const shown = Math.max(LEAST_BARS, this.chart.timeScale().width() / BAR_PX);
      this.chart.timeScale().setVisibleLogicalRange({ from: rows.length - shown, to: rows.length + 3 });
      this.fresh = false;
    }
    this.bands = stretches(rows, this.window_us).map(({ from_us, to_us }) => ({ from: from_us / 1e6, to: (to_us - this.window_us) / 1e6 }));
    for (const hatching of this.hatchings) hatching.again?.();
    this.legend();
  }

  /** Return each series with what makes a point of a row. A line is not drawn across missing data. */
  points() {
    const [up, down, even] = ["up", "down", "even"].map(colour);
    const line = (read, name) => {
      const shown = colour(name);
      return (row) => {
        const value = read(row.bar);
        return value === undefined ? { time: time(row) } : { time: time(row), value, color: row.after || row.missing ? CLEAR : shown };
      };
    };
    const bars = (read) => (row) => {
      const value = read(row.bar);
      return value === undefined ? { time: time(row) } : { time: time(row), value, color: value > 0 ? up : value < 0 ? down : even };
    };
    return [
      [this.candles, ({ open_us, bar }) => (bar ? { time: open_us / 1e6, open: bar.open, high: bar.high, low: bar.low, close: bar.close } : { time: open_us / 1e6 })],
      [this.vwap, line((bar) => bar?.values?.vwap, "vwap")],
      [this.ofi, bars((bar) => bar?.values?.ofi)],
      [this.cvd, line((bar) => bar?.values?.cvd, "cvd")],
      [this.score, bars((bar) => bar?.values?.score)],
    ];
  }

  /** Mark where the trade state changed: at the bar whose close decided, and of several in one bar the last. */
  mark(of, rows) {
    const [first, last] = [rows[0]?.open_us ?? Infinity, rows.at(-1)?.open_us ?? 0];
    const opened = ({ at_us }) => Math.floor((at_us - 1) / this.window_us) * this.window_us;
    this.transitions = new Map(of.transitions.map((one) => [opened(one), one]).filter(([at]) => at >= first && at <= last));
    this.label();
  }

  /** Draw the markers, and the score of as many as there is room for: the newest first. */
  label() {
    const room = Math.ceil(LABEL_PX / this.chart.timeScale().options().barSpacing) * this.window_us;
    const labelled = {}; // by state: where the label after stands
    const markers = [...this.transitions].reverse().map(([open_us, transition]) => {
      const fits = !(labelled[transition.to_state] < open_us + room);
      if (fits) labelled[transition.to_state] = open_us;
      return markerOf(open_us, transition, fits);
    }).reverse();
    const name = `${this.window_us} ${colour("up")} ${markers.map((marker) => `${marker.time}${marker.shape}${marker.text}`).join()}`;
    if (name !== this.marked) this.markers.setMarkers(markers);
    this.marked = name;
  }

  /** Say what the bar under the pointer holds, or the last one. */
  legend() {
    const row = this.rows.find((row) => row.open_us / 1e6 === this.pointed) ?? this.rows.findLast((row) => row.bar) ?? null;
    const closed = this.pointed ? row : this.rows.findLast((row) => row.bar?.values) ?? null;
    this.legends?.forEach((legend, at) => legend.replaceChildren(...(at ? figureOf(PANES[at], closed, this) : priceOf(row, closed, this))));
    this.place();
  }

  /** Put the legends at the top of their panes. */
  place() {
    let top = 0;
    this.chart.panes().forEach((pane, at) => {
      if (this.legends) this.legends[at].style.top = `${top + 4}px`;
      top += pane.getHeight() + 1;
    });
  }
}

function time(row) {
  return row.open_us / 1e6;
}

function firstChange(old, rows) {
  const at = old.findIndex((row, at) => row.bar !== rows[at]?.bar || row.open_us !== rows[at]?.open_us || row.missing !== rows[at]?.missing);
  return at < 0 ? old.length : at;
}

function markerOf(open_us, { from_state, to_state, score }, labelled) {
  const time = open_us / 1e6;
  const text = labelled ? figure(score, 0, true) : "";
  if (to_state === "LONG") return { time, position: "belowBar", shape: "arrowUp", color: colour("up-text"), text };
  if (to_state === "SHORT") return { time, position: "aboveBar", shape: "arrowDown", color: colour("down-text"), text };
  const position = from_state === "SHORT" ? "belowBar" : "aboveBar"; // away from the score of the one that ends
  return { time, position, shape: "circle", color: colour("even"), text: "", size: 0.6 };
}

function priceOf(row, closed, { digits, of, transitions }) {
  if (!row?.bar) return [row ? `${clock(row.open_us)} ${row.missing ? `no data: ${reasonOf(row.missing)}` : "no trades"}` : ""];
  const { bar } = row;
  const turned = transitions.get(row.open_us);
  const state = turned ? ` then ${turned.to_state} ${figure(turned.score, 0, true)}` : "";
  const word = row.forming ? "forming" : row.missing ? `incomplete: ${reasonOf(row.missing)}`.replace(": incomplete", "") : "";
  const change = bar.close - bar.open;
  const figures = `O ${figure(bar.open, digits)} H ${figure(bar.high, digits)} L ${figure(bar.low, digits)} C ${figure(bar.close, digits)} `;
  const vwap = node("span", "vwap", ` VWAP ${figure((bar.values ?? closed?.bar?.values)?.vwap, digits)}`);
  const moved = node("span", tone(change), `${arrow(change)} ${figure(Math.abs(change), digits)}`);
  return [`${clock(row.open_us)} ${figures}`, moved, vwap, ` vol ${size(bar.volume)} ${units(of.name).base} ${word}${state}`];
}

function figureOf(pane, row, { window_us, rows, of }) {
  const title = node("b", `pane-${pane.name}`, pane.title);
  title.title = pane.told;
  const unit = pane.name === "score" || !of ? "" : ` ${units(of.name).base}`;
  const value = row?.bar?.values?.[pane.name];
  if (value !== undefined) {
    const digits = pane.name === "score" ? 0 : 2;
    const text = figure(value, digits, true);
    return [title, " ", pane.name === "cvd" ? text : node("span", tone(value), `${arrow(value)} ${text}`), unit];
  }
  if (!rows.length) return [title];
  if (rows.some((row) => row.bar?.values?.[pane.name] !== undefined)) return [title, " –"];
  return [title, ` ${pane.name === "score" && window_us < MINUTE_US ? "is for windows of a minute or more" : pane.none}`];
}
