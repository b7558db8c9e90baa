"""Backtest & Optimization: what replays and searches gave."""

from grafana.colours import BAD, GOOD, NEUTRAL
from grafana.dashboard import dashboard, link, row
from grafana.kinds import fixed, graded, lines, named, organize, stat, table
from grafana.queries import flux, now, points, prom

NO_RUNS, NO_TRIALS = "no replay has run yet", "no optimisation has run yet"
EQUITY = flux(
    points(
        "backtest",
        'filter(fn: (r) => r._measurement == "portfolio" and r._field == "value_usd")',
        'group(columns: ["run_id", "portfolio"])',
        'sort(columns: ["_time"])',
        "aggregateWindow(every: v.windowPeriod, fn: last, createEmpty: false)",
        'keep(columns: ["_time", "_value", "run_id", "portfolio"])',
    )
)
TRIALS = flux(
    points(
        "backtest",
        'filter(fn: (r) => r._measurement == "optimization")',
        'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
        "group()",
        'sort(columns: ["score"], desc: true)',
        "limit(n: 50)",
        'drop(columns: ["_start", "_stop", "_measurement"])',
    )
)
DASHBOARD = dashboard(
    "backtest-optimization",
    "Backtest & Optimization",
    "Which parameters did better on the past, and by how much? Equity curves lie at the time of the market that was replayed.",
    row(
        "Runs",
        stat(
            "Backtest runs",
            "Replays that ended, by how.",
            now("sum by (status) (backtest_runs_total)", "{{status}}"),
            unit="short",
            none=NO_RUNS,
            text="value_and_name",
            overrides=[named("complete", color=fixed(GOOD)), named("failed", thresholds=graded(((None, NEUTRAL), (1, BAD))))],
            width=8,
            height=9,
        ),
        stat(
            "Replay speed",
            "Seconds of the market that the last replay went through in each second.",
            now("backtest_replay_speed_ratio", "speed"),
            unit="suffix:x",
            none=NO_RUNS,
            width=4,
            height=9,
        ),
        lines(
            "Optimization score",
            "The best score of each objective so far.",
            prom("andre_optimization_score", "{{optimizer}} {{objective}}"),
            unit="none",
            none=NO_TRIALS,
            height=9,
        ),
        lines(
            "Equity curve by run",
            "Value of the account in each run, at the time of the market that was replayed: choose that time as the range.",
            EQUITY,
            unit="currencyUSD",
            none="no run lies in the range: choose the time of the market that was replayed",
            fill=0,
            width=24,
            height=10,
        ),
        table(
            "Trials",
            "The 50 best trials that ended in the range.",
            TRIALS,
            unit="none",
            none=NO_TRIALS,
            transformations=[
                organize(
                    {"_time": "ended", "duration_s": "duration"},
                    order=("_time", "run_id", "optimizer", "objective", "status", "score", "duration_s", "params"),
                )
            ],
            overrides=[named("duration", unit="s"), named("score", decimals=4)],
            sort=("score",),
            width=24,
            height=9,
        ),
    ),
    file="backtest.json",
    refresh="30s",
    since="now-30d",
    tags=("account",),
    links=[link("Account", "trading-performance", "What the live accounts do", time=False)],
)
