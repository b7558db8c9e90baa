/** An account on paper: its value and result, what it holds, its strategies, and what its filters and rules refused. */

import { arrow, badge, clock, empty, figure, node, put, table, titled, tone, units } from "./format.js";

const REFUSALS_SHOWN = 14;
const BREAKER = { closed: "● closed: trading", open: "✕ open: no new positions", half_open: "▲ half-open: one position may open" };

export class Account {
  /** Chooses the account by the list beside the title, where there are several. */
  constructor(changed) {
    this.choice = document.getElementById("account-name");
    this.choice.addEventListener("change", changed);
  }

  show(element, store) {
    const names = [...store.accounts.keys()].sort();
    if (this.choice.options.length !== names.length) {
      const kept = this.choice.value;
      this.choice.replaceChildren(...names.map((name) => new Option(name, name, false, name === kept)));
      this.choice.hidden = names.length < 2;
    }
    const account = store.accounts.get(this.choice.value);
    if (!account?.portfolio) {
      put(element, empty("No account has reported yet: it does when all its instruments have."));
      return;
    }
    const { portfolio } = account;
    put(element, figures(portfolio, account), positions(portfolio, store), strategies(account));
  }
}

function figures(portfolio, { breaker }) {
  const money = (value) => node("span", tone(Number(value)), `${arrow(Number(value))} ${figure(value, 2, true)}`);
  const pairs = [
    ["value", `${figure(portfolio.value_usd)} USD`],
    ["P&L, USD", node("span", "", money(portfolio.pnl_usd), ` (${figure(portfolio.pnl_pct, 2, true)} %)`)],
    ["P&L today, USD", node("span", "", money(portfolio.daily_pnl_usd), ` (${figure(portfolio.daily_pnl_pct, 2, true)} %)`)],
    ["exposure", `${figure(portfolio.exposure_pct, 1)} % of the value`],
    ["drawdown", `${figure(portfolio.drawdown_pct)} %, worst ${figure(portfolio.max_drawdown_pct)} %`],
    ["fills", `${portfolio.trades_per_hour} in the last hour`],
    ["breaker", node("span", portfolio.breaker === "closed" ? "" : "late", BREAKER[portfolio.breaker], breaker && breaker.open ? ` (${breaker.reason})` : "")],
    ["as of", `${clock(portfolio.at_us)} UTC`],
  ];
  return node("dl", "figures", ...pairs.map(([name, value]) => node("div", "", node("dt", "", name), node("dd", "", value))));
}

function positions({ positions: held }, store) {
  if (!held.length) return empty("No position is open.");
  const rows = held.map((one) => [
    badge(Number(one.qty) > 0 ? "LONG" : "SHORT"), titled(one.instrument), one.strategy, `${figure(Math.abs(one.qty), 4)} ${units(one.instrument).base}`,
    figure(one.entry, store.instruments.get(one.instrument)?.digits || 2), figure(Math.abs(one.value_usd)), signed(one.pnl_usd),
  ]);
  const columns = ["position", "instrument", "strategy", "#size", "#entry", "#value, USD", "#P&L, USD"];
  return node("div", "wide cards positions", table("Open positions", columns, rows));
}

function strategies({ strategies: found }) {
  if (!found.size) return empty("No strategy has reported yet.");
  const rows = [...found.values()].sort((one, other) => (one.strategy < other.strategy ? -1 : 1)).map((one) => [
    one.strategy,
    one.status === "running" ? "● running" : node("span", "late", `▲ ${one.status}`),
    `${one.wins} / ${one.losses}`,
    one.win_rate === undefined ? "–" : `${figure(100 * one.win_rate, 0)} %`,
    signed(one.pnl_usd),
  ]);
  return node("div", "wide", table("Strategies", ["strategy", "status", "#won / lost", "#won", "#P&L, USD"], rows));
}

function signed(value) {
  return node("span", tone(Number(value)), `${arrow(Number(value))} ${figure(value, 2, true)}`);
}

/** Show the latest refusals, each with the rule and what the rule saw. */
export function refusals(element, store) {
  if (!store.refusals.length) {
    put(element, empty("Nothing was refused yet."));
    return;
  }
  const rows = store.refusals.slice(-REFUSALS_SHOWN).reverse().map((one) => [
    clock(one.at_us), badge(one.side), titled(one.instrument), one.strategy, node("span", "", node("b", "", one.reason.replaceAll("_", " ")), `: ${one.found}`),
  ]);
  put(element, node("div", "wide cards refused", table("Refused", ["time", "side", "instrument", "strategy", "rule and what it saw"], rows)));
}
