"""Replays and trials on the Prometheus sink's page: counted from the topic's beginning at each start."""

from runtime.memory import MemoryBus
from tests.build import DAY, T0
from tests.sink.build import prometheus_sink, put
from tests.sink.build_trading import run, trial


async def page_of(*messages, starts: int = 1) -> dict:
    """Return the page of the last of so many starts."""
    bus = MemoryBus()
    put(bus, *messages, at_us=T0 - 300 * DAY)
    for _ in range(starts):
        async with prometheus_sink(bus) as running:
            main = await running.page("/metrics")
    return main


async def test_runs_are_counted_by_status_and_the_last_one_gives_the_speed():
    main = await page_of(run("a", speed_ratio=9.0), run("b", "failed"), run("c", speed_ratio=7.5), starts=2)
    assert [main["backtest_runs_total", status] for status in ("complete", "failed")] == [2, 1]
    assert main["backtest_replay_speed_ratio",] == 7.5


async def test_a_run_that_was_sent_twice_is_one_and_one_that_was_made_twice_is_two():
    main = await page_of(run("a"), run("a"), run("a", kind="verify"), run("a", at_us=T0 + 1), trial(1), trial(1))
    assert main["backtest_runs_total", "complete"] == 3
    assert main["andre_optimization_runs_total", "tpe", "complete"] == 1


async def test_trials_are_counted_by_optimizer_and_status_and_timed():
    main = await page_of(
        trial(0, duration_s=1.0),
        trial(1, duration_s=1.5, status="failed", score=None),
        trial(2, duration_s=4000.0, status="pruned", score=None),
        trial(0, run_id="run-2", optimizer="grid"),
        starts=2,
    )
    assert [main["andre_optimization_runs_total", "tpe", status] for status in ("complete", "failed", "pruned")] == [1, 1, 1]
    assert [main["andre_optimization_runs_total", "grid", status] for status in ("complete", "failed", "pruned")] == [1, 0, 0]
    buckets = {le: main["andre_optimization_duration_seconds_bucket", "tpe", le] for le in ("1.0", "5.0", "3600.0", "+Inf")}
    assert buckets == {"1.0": 1, "5.0": 2, "3600.0": 2, "+Inf": 3}
    assert main["andre_optimization_duration_seconds_sum", "tpe"] == 4002.5
    assert main["andre_optimization_duration_seconds_count", "tpe"] == 3


async def test_the_best_score_of_an_objective_stays_over_runs():
    main = await page_of(trial(0, 1.0), trial(1, 2.5), trial(2, 9.0, status="pruned"), trial(0, 0.5, run_id="run-2"), trial(3, None))
    assert main["andre_optimization_score", "tpe", "sharpe_ratio"] == 2.5


async def test_hyperparameters_are_those_of_the_last_best_trial_of_a_phase():
    main = await page_of(
        trial(0, best=True, params={"size_pct": 5, "gone": 1.0}),
        trial(1, best=True, params={"size_pct": 7.5, "inverted": True, "sampler": "tpe"}),
        trial(2, params={"size_pct": 9}),
        trial(3, best=True, phase=3, params={"size_pct": 2, "risk_level": 1.75}),
    )
    found = {tuple(labels): value for (name, *labels), value in main.items() if name == "andre_hyperparameter"}
    assert found == {
        ("size_pct", "phase_2"): 7.5,
        ("inverted", "phase_2"): 1.0,
        ("size_pct", "phase_3"): 2.0,
        ("risk_level", "phase_1"): 0.5,
        ("risk_level", "phase_2"): 1.0,
        ("risk_level", "phase_3"): 1.75,
    }
