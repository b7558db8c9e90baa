"""The dashboards, a module each, in the order of the question: is the stream alive, is the market moving, how is the account."""

from grafana.panels import (
    backtest,
    infrastructure,
    neko_signal,
    pipeline,
    system_overview,
    trader_247,
    trading,
    trading_live,
    trading_overview,
    trading_performance,
)

DASHBOARDS = (
    system_overview.DASHBOARD,
    trading_live.DASHBOARD,
    trading.DASHBOARD,
    neko_signal.DASHBOARD,
    trading_performance.DASHBOARD,
    trader_247.DASHBOARD,
    trading_overview.DASHBOARD,
    infrastructure.DASHBOARD,
    pipeline.DASHBOARD,
    backtest.DASHBOARD,
)
