"""Trading Performance: how the accounts and their strategies do."""

from grafana.colours import BAD, DOWN, GOOD, NEUTRAL, UP, WARNING
from grafana.dashboard import dashboard, link, row
from grafana.kinds import bars, fixed, gauge, lines, named, stat, timeline
from grafana.panels import limits
from grafana.queries import now, prom

STATES = {1: ("running", GOOD), 2: ("paused", WARNING), 3: ("halted", "orange"), 4: ("error", BAD)}
NO_ACCOUNT, NO_TRADES = "no account yet", "no trades yet"


def state_of(metric: str, by: str, states: dict[str, int]) -> str:
    """Return one number a row out of a set of states, of which one is 1 and the others 0."""
    label = "status" if "status" in metric else "state"
    return f"max by ({by}) (" + " or ".join(f'{number} * ({metric}{{{label}="{name}"}} == 1)' for name, number in states.items()) + ")"


DASHBOARD = dashboard(
    "trading-performance",
    "Trading Performance",
    "How do the accounts and their strategies do? For a look once a day, and after each change of a strategy.",
    row(
        "Portfolio",
        lines(
            "Portfolio Value Over Time",
            "What each account on paper is worth.",
            prom('trading_portfolio_total_value_usd{portfolio!="watch"}', "{{portfolio}}"),
            unit="currencyUSD",
            none=NO_ACCOUNT,
        ),
        lines(
            "Portfolio P&L Percentage",
            "Profit since the account began, of what it began with.",
            prom('trading_portfolio_pnl_percent{portfolio!="watch"}', "{{portfolio}}"),
            unit="percent",
            none=NO_ACCOUNT,
        ),
        stat(
            "Total P&L (USD)",
            "Profit of all accounts since they began.",
            prom('sum(trading_portfolio_pnl_usd{portfolio!="watch"})', "P&L"),
            unit="currencyUSD",
            none=NO_ACCOUNT,
            steps=limits.SIGNED,
            width=12,
        ),
        stat(
            "Open Positions Count",
            "Positions that are open, of all accounts.",
            prom('sum(trading_portfolio_positions_count{portfolio!="watch"})', "open"),
            unit="short",
            none=NO_ACCOUNT,
            width=12,
        ),
    ),
    row(
        "Bots and trades",
        stat(
            "Active/Total/Inactive Bots",
            "Strategies that run, all of them, and those that do not.",
            now("max(trading_bots_active_total)", "active"),
            now("max(trading_bots_total)", "total"),
            now("max(trading_bots_total) - max(trading_bots_active_total)", "inactive"),
            unit="short",
            none="no strategy yet",
            text="value_and_name",
            overrides=[named("active", color=fixed(GOOD)), named("inactive", color=fixed(NEUTRAL))],
            width=10,
            height=6,
        ),
        stat(
            "Trades (Last Hour)",
            "Trades that closed within the last hour.",
            prom("round(sum(increase(trading_trades_total[1h])))", "trades"),
            unit="short",
            none=NO_TRADES,
            width=6,
            height=6,
        ),
        gauge(
            "Win Rate",
            "Trades that closed with a profit, of those with a profit or a loss, over the range shown.",
            now(
                'sum(increase(trading_trades_total{result="profit"}[$__range])) '
                '/ (sum(increase(trading_trades_total{result=~"profit|loss"}[$__range])) > 0)',
                "win rate",
            ),
            unit="percentunit",
            none=NO_TRADES,
            low=0,
            high=1,
            steps=limits.WIN_RATE,
            width=8,
        ),
        bars(
            "Trades by Result (Profit/Loss - Hourly)",
            "Trades that closed in each hour, by result.",
            prom("sum by (result) (increase(trading_trades_total[$__interval]))", "{{result}}"),
            interval="1h",
            unit="short",
            none="no trade in a full hour yet",
            overrides=[
                named("profit", color=fixed(UP)),
                named("loss", color=fixed(DOWN)),
                named("breakeven", color=fixed(NEUTRAL)),
            ],
        ),
        timeline(
            "Bot Status Over Time",
            "What each strategy was allowed to do: running, paused by a command, halted by a rule, or in error.",
            prom(state_of("trading_bot_status", "strategy", {"running": 1, "paused": 2, "halted": 3, "error": 4}), "{{strategy}}"),
            none="no strategy yet",
            states=STATES,
        ),
        lines(
            "Market Data Update Rate by Symbol",
            "Updates a second that ingest received, of trades, quotes and book together.",
            prom("sum by (symbol) (rate(trading_market_updates_total[5m]))", "{{symbol}}"),
            unit="ops",
            none="no market data yet",
            width=24,
        ),
    ),
    file="trading-performance.json",
    refresh="10s",
    since="now-24h",
    tags=("account",),
    links=[link("Why", "247trader-v2", "Triggers, proposals, rejections")],
)
