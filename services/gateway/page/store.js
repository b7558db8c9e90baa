/**
 * What is known, from the messages of the stream. A snapshot replaces what was there, a change is added.
 *
 * Lists have limits. Bars and candles are those of the chosen instrument, by window and opening time.
 */

import { digitsOf } from "./format.js";

export const MINUTE_US = 60_000_000;
const SPARK_MINUTES = 60;
const EVENTS_KEPT = 100; // of an instrument's gaps and transitions, and of refusals
const BARS_KEPT = 1_000; // of a window

export class Store {
  constructor() {
    this.instruments = new Map();
    this.accounts = new Map();
    this.refusals = [];
    this.chosen = null;
    this.forget();
    this.ahead_us = null; // the gateway's clock less our monotonic one, which nobody sets, at the least delay of this connection
    this.lost = 0;
  }

  /** Return the gateway's time now, as well as it can be told from here. */
  now() {
    return this.ahead_us === null ? Date.now() * 1_000 : performance.now() * 1_000 + this.ahead_us;
  }

  /** Choose an instrument and forget what only concerns the one before. */
  choose(name) {
    this.chosen = name;
    this.forget();
  }

  forget() {
    this.bars = new Map(); // window_us -> open_us -> bar
    this.candles = new Map(); // window_us -> candle
    this.book = null;
  }

  /** Take a message; return the names of the channels that changed. */
  take(message) {
    if (message.sent_us) this.ahead_us = Math.max(this.ahead_us ?? -Infinity, message.sent_us - performance.now() * 1_000);
    if (message.type === "welcome") {
      this.ahead_us = null;
      for (const name of message.instruments) this.instrument(name);
      return ["welcome"];
    }
    if (message.type === "snapshot") {
      this.begin(message.channel);
      for (const value of message.data) this.put(message.channel, value);
      return [message.channel];
    }
    if (message.type !== "changes") return [];
    this.lost += message.lost ?? 0;
    for (const [channel, values] of Object.entries(message.data)) for (const value of values) this.put(channel, value);
    for (const price of message.data.prices ?? []) this.instrument(price.instrument).behind_us = price.received_us - price.event_us;
    return Object.keys(message.data);
  }

  /** Forget the events of a channel: its snapshot has those that are kept. */
  begin(channel) {
    if (channel === "refusals") this.refusals = [];
    if (channel === "gaps") for (const one of this.instruments.values()) one.gaps.clear();
    if (channel === "transitions") for (const one of this.instruments.values()) one.transitions = [];
  }

  put(channel, value) {
    const one = value.instrument && channel !== "refusals" ? this.instrument(value.instrument) : null;
    switch (channel) {
      case "prices": return this.price(one, value);
      case "health": return Object.assign(one, { received_us: value.received_us, complete: value.complete, lasting: value.gaps ?? [], removed: !!value.removed });
      case "gaps": return this.gap(one, value);
      case "transitions": one.state = value.to_state; return limit(one.transitions, value);
      case "bars": return this.bar(one, value);
      case "candles": if (one.name === this.chosen) this.candles.set(value.window_us, value); return;
      case "books": if (one.name === this.chosen) this.book = value; return;
      case "portfolio": this.account(value.account).portfolio = value; return;
      case "breakers": this.account(value.account).breaker = value; return;
      case "strategies": this.account(value.account).strategies.set(value.strategy, value); return;
      case "refusals": return limit(this.refusals, value);
    }
  }

  instrument(name) {
    if (!this.instruments.has(name)) {
      const [exchange, symbol] = name.split(":");
      this.instruments.set(name, {
        name, exchange, symbol, price: null, moved: 0, digits: 0, bid: null, ask: null, event_us: 0, received_us: 0,
        behind_us: 0, complete: null, // behind_us: from the venue's time to ours, of the last change
        lasting: [], removed: false, gaps: new Map(), transitions: [], minutes: new Map(), state: null, score: null,
      });
    }
    return this.instruments.get(name);
  }

  account(name) {
    if (!this.accounts.has(name)) this.accounts.set(name, { name, portfolio: null, breaker: null, strategies: new Map() });
    return this.accounts.get(name);
  }

  price(one, value) {
    const price = value.price ?? null;
    for (const found of [price, value.bid, value.ask]) if (found) one.digits = Math.max(one.digits, digitsOf(found));
    if (price !== null && one.price !== null && price !== one.price) one.moved = Math.sign(price - one.price);
    Object.assign(one, { price, bid: value.bid ?? null, ask: value.ask ?? null, event_us: value.event_us, received_us: value.received_us });
    if (price === null) return;
    spark(one, value.event_us, price);
    if (one.name === this.chosen) this.tick(one);
  }

  /** Let a trade move the forming candles: their own messages come once a second. */
  tick(one) {
    for (const [window_us, candle] of this.candles) {
      if (one.event_us < candle.at_us || one.event_us >= candle.open_us + window_us) continue;
      const [high, low] = [Math.max(candle.high, one.price), Math.min(candle.low, one.price)];
      this.candles.set(window_us, { ...candle, high, low, close: one.price });
    }
  }

  bar(one, bar) {
    if (bar.window_us === MINUTE_US) {
      Object.assign(one, { state: bar.state ?? one.state, score: bar.values?.score ?? null, complete: bar.complete });
      spark(one, bar.open_us, bar.close);
    }
    if (one.name !== this.chosen) return;
    this.keep(bar);
    if ((this.candles.get(bar.window_us)?.open_us ?? Infinity) <= bar.open_us) this.candles.delete(bar.window_us);
  }

  keep(bar) {
    if (!this.bars.has(bar.window_us)) this.bars.set(bar.window_us, new Map());
    const kept = this.bars.get(bar.window_us);
    kept.set(bar.open_us, bar);
    if (kept.size > BARS_KEPT) kept.delete(Math.min(...kept.keys()));
  }

  /** Take bars that were asked for; those from the stream stay. */
  history(bars) {
    for (const bar of bars) if (!this.bars.get(bar.window_us)?.has(bar.open_us)) this.keep(bar);
  }

  /** Return the bars of a window, oldest first. */
  barsOf(window_us) {
    return [...(this.bars.get(window_us)?.values() ?? [])].sort((one, other) => one.open_us - other.open_us);
  }

  /** A restart ends the gaps that last; a second message of a gap replaces the first. */
  gap(one, gap) {
    if (gap.reason === "restart") {
      for (const [name, kept] of one.gaps) if (kept.to_us === null) one.gaps.set(name, { ...kept, to_us: gap.to_us ?? gap.received_us });
    }
    one.gaps.set(`${gap.channel} ${gap.from_us}`, gap);
    if (one.gaps.size > EVENTS_KEPT) one.gaps.delete(one.gaps.keys().next().value);
  }
}

/** Keep the last price of each minute. */
export function spark(one, at_us, price) {
  const minute = Math.floor(at_us / MINUTE_US);
  one.minutes.set(minute, price);
  if (one.minutes.size > SPARK_MINUTES) one.minutes.delete(Math.min(...one.minutes.keys()));
}

function limit(list, value) {
  list.push(value);
  if (list.length > EVENTS_KEPT) list.shift();
}
