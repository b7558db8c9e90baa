"""A dashboard to begin another one with: one variable, one panel. It is written beside the others and not shown."""

from grafana.dashboard import asked, dashboard, row
from grafana.kinds import lines
from grafana.queries import prom

DASHBOARD = dashboard(
    "my-dashboard",
    "My dashboard",
    "The question that it answers.",
    row(
        "First row",
        lines(
            "Open trades",
            "Trades that are open, of the chosen symbol.",
            prom('sum by (strategy) (andre_active_trades{symbol="$symbol"})', "{{strategy}}"),
            unit="short",
            none="no strategy yet",
            width=24,
        ),
    ),
    file="dashboard.json",
    refresh="10s",
    since="now-1h",
    variables=[asked("symbol", "label_values(andre_active_trades, symbol)", "Symbol")],
)
