"""`replay lookahead`: an honest table passes, and one with an operator that waits for the future is found out."""

from pathlib import Path
from types import ModuleType, SimpleNamespace

from msgspec import Struct
from msgspec.structs import replace

from core.features import Window
from core.operators import bar, candle
from core.topology import OPERATORS, Topology
from schemas.bars import Bar
from schemas.market import Trades
from services.replay.lookahead import Cut, Difference, blanked, looked
from tests.build import BTC, MINUTE, SECOND, T0, heartbeat, quotes, trades
from tests.replay.commands import replay
from tests.replay.walks import ETH, STRATEGIES, WINDOWS_US, archived, job, walk

CUTS = [T0 + 31 * MINUTE, T0 + 50 * MINUTE + 7 * SECOND]


class Params(Struct, frozen=True):
    pass


class State(Struct, frozen=True):
    before: float | None = None  # the last price of the window that has ended
    last: float | None = None


def take(params: Params, state: State, run: Trades) -> State:
    return State(state.before, run.price[-1])


def close(params: Params, state: State, window: Window) -> tuple[State, tuple[Bar, ...]]:
    """Publish, for the window before this one, the price to come."""
    if window.window_us != MINUTE or state.last is None:
        return state, ()
    if state.before is None:
        return State(state.last, state.last), ()
    sums = (0.0,) * 4
    said = Bar(window.instrument, MINUTE, window.open_us - MINUTE, *(state.before,) * 4, *sums, 0, True, "IDLE", {}, window.since_us)
    said.values["next_close"] = state.last
    return State(state.last, state.last), (said,)


cheat = SimpleNamespace(__name__="core.operators.cheat", INPUTS=(Trades,), Params=Params, State=State, take=take, close=close)


def looked_at(folder: Path, operators: tuple[ModuleType, ...]) -> list[Cut] | Difference:
    return looked(job(folder)._replace(topology=Topology(WINDOWS_US, operators=operators)), CUTS)[0]


def test_the_operators_of_the_table_see_nothing_of_the_future(tmp_path: Path):
    found = looked_at(archived(tmp_path, p0=walk(hours=1), p1=walk(ETH, hours=1)), OPERATORS)
    assert isinstance(found, list), found
    assert [cut.at_us for cut in found] == CUTS
    assert 1_000 < found[0].compared < found[1].compared


def test_an_operator_that_speaks_of_a_window_after_the_next_one_is_found_out(tmp_path: Path):
    found = looked_at(archived(tmp_path, p0=walk(hours=1)), (candle, bar, cheat))
    assert isinstance(found, Difference)
    assert (found.topic, found.key) == ("bars", BTC)
    assert '"next_close":' in found.whole and '"next_close":' in found.blanked
    assert found.whole != found.blanked


def test_nothing_but_times_is_left_behind_a_cut():
    run = trades(at=[T0, T0 + SECOND], price=[5.0, 6.0], size=[2.0, 3.0], side=[-1, -1])
    both = quotes(at=[T0, T0 + SECOND], bid=[None, 7.0], bid_size=[None, 2.0], ask=[9.0, None], ask_size=[1.0, None])
    beat = heartbeat(T0 + 9 * SECOND)
    one, two, three = blanked([run, both, beat], T0 + SECOND)
    assert one == replace(run, price=[5.0, 1.0], size=[2.0, 1.0], side=[-1, 0])
    assert two == replace(both, bid_price=[None, 1.0], bid_size=[None, 1.0], ask_price=[9.0, 2.0], ask_size=[1.0, 1.0])
    assert three is beat and blanked([run], T0 + 2 * SECOND) == [run]


def test_the_command_says_what_it_compared(tmp_path: Path):
    archived(tmp_path, p0=walk(hours=1))
    strategies = tmp_path / "strategies.yaml"
    strategies.write_bytes(STRATEGIES)
    given = ("--from", "2024-10-04", "--to", "2024-10-05", "--archive", tmp_path, "--strategies", strategies)
    done = replay("lookahead", *given, "--at", "2024-10-04T00:20", "--at", "2024-10-04T00:40")
    assert done.returncode == 0, done.stderr.decode()
    assert all(word in done.stdout for word in (b"2024-10-04 00:20:00", b"2024-10-04 00:40:00", b"nothing here sees the future"))
    wrong = replay("lookahead", *given, "--at", "2024-10-06")
    assert (wrong.returncode, wrong.stdout) == (2, b"") and b"--at: expected times within" in wrong.stderr
