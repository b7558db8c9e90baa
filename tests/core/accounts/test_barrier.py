"""The barrier: who is waited for, who is left out, and what becomes of what comes late or twice."""

from core.accounts.barrier import BEHIND_US, LATE_TRANSITIONS, WAITING, Barrier, BarrierState, Boundary
from tests.build import MINUTE, SECOND, alert, mark, transition
from tests.core.accounts.desk import ETH, Desk, now, strategy

BTC = "binance:BTC-USDT"
SOL = "binance:SOL-USDT"


class Reports:
    """A barrier fed by hand; times are seconds since T0."""

    def __init__(self, *instruments: str) -> None:
        self.barrier = Barrier(instruments, BarrierState())

    def take(self, instrument: str, second: float, to: str = "") -> list[float]:
        """Report a boundary, with a transition if one is named; return the boundaries that became due."""
        return [(boundary.at_us - now(0)) / SECOND for boundary in self.due(instrument, second, to)]

    def due(self, instrument: str, second: float, to: str = "") -> list[Boundary]:
        if to:
            self.barrier.take(transition(now(second), to, instrument=instrument))
        self.barrier.take(mark(now(second), instrument=instrument))
        found = []
        while (boundary := self.barrier.due()) is not None:
            found.append(boundary)
        return found

    @property
    def left_out(self) -> list[str]:
        return self.barrier.state.left_out


def started() -> Reports:
    """Return a barrier of BTC and ETH that has acted at 10."""
    reports = Reports(BTC, ETH)
    reports.take(BTC, 10)
    assert reports.take(ETH, 10) == [10]
    return reports


def test_it_acts_when_all_have_reported():
    reports = Reports(BTC, ETH, SOL)
    assert (reports.take(BTC, 1), reports.take(SOL, 1), reports.take(ETH, 1)) == ([], [], [1])


def test_a_single_instrument_waits_for_nobody():
    assert Reports(BTC).take(BTC, 1) == [1]


def test_boundaries_that_only_some_report_are_acted_on_once_the_others_have_passed_them():
    reports = started()
    assert [reports.take(BTC, second) for second in (11, 12)] == [[], []]
    assert reports.take(ETH, 12.5) == [11, 12]  # 12.5 waits for BTC
    assert reports.take(BTC, 13) == [12.5]


def test_a_boundary_holds_marks_and_transitions_in_the_order_of_instruments():
    reports = Reports(ETH, BTC)
    reports.take(ETH, 1, "LONG")
    (boundary,) = reports.due(BTC, 1, "SHORT")
    assert [found.instrument for found in boundary.marks] == [BTC, ETH]
    assert [(found.instrument, found.to_state) for found in boundary.transitions] == [(BTC, "SHORT"), (ETH, "LONG")]


def test_who_is_five_seconds_behind_is_waited_for_and_who_is_more_is_left_out():
    reports = started()
    assert [reports.take(BTC, second) for second in (11, 12, 13, 14, 15)] == [[]] * 5 and reports.left_out == []
    assert reports.take(BTC, 15.000001) == [11, 12, 13, 14, 15, 15.000001] and reports.left_out == [ETH]


def test_who_never_reported_is_left_out_after_as_long():
    reports = Reports(BTC, ETH)
    assert [reports.take(BTC, second) for second in (10, 12, 15)] == [[]] * 3
    assert reports.take(BTC, 16) == [10, 12, 15, 16] and reports.left_out == [ETH]


def test_who_was_left_out_joins_once_it_is_five_seconds_behind_at_the_next_boundary_not_acted_on():
    reports = started()
    reports.take(BTC, 20)
    assert reports.take(ETH, 14.999999) == [] and reports.left_out == [ETH]
    assert reports.take(ETH, 15) == [] and reports.left_out == []
    reports.take(ETH, 18)
    assert reports.take(BTC, 21) == [] == reports.take(ETH, 20)  # it is waited for
    assert reports.take(ETH, 22) == [21]


def test_who_is_always_a_little_slower_is_not_left_out_for_ever():
    #  ETH was gone for a while; since then each of its marks comes just behind BTC's of the same second
    reports = started()
    reports.take(BTC, 20)
    found = [due for second in range(20, 30) for due in (*reports.take(BTC, second), *reports.take(ETH, second))]
    assert found == list(range(21, 30)) and reports.left_out == []


def test_who_joined_and_falls_behind_again_is_left_out_again():
    reports = started()
    reports.take(BTC, 20)
    reports.take(ETH, 20)
    assert [reports.take(BTC, second) for second in (21, 25)] == [[], []]
    assert reports.take(BTC, 26) == [21, 25, 26] and reports.left_out == [ETH]


def test_a_mark_that_came_too_late_is_seen_at_the_next_boundary():
    reports = started()
    reports.take(BTC, 20)
    reports.take(ETH, 12)
    reports.take(ETH, 14)
    (boundary,) = reports.due(BTC, 21)
    assert [(found.instrument, found.at_us) for found in boundary.marks] == [(ETH, now(14)), (BTC, now(21))]


def test_late_transitions_come_first_in_the_order_of_their_times():
    reports = Reports(BTC, ETH, SOL)
    for name in (BTC, ETH, SOL):
        reports.take(name, 10)
    reports.take(BTC, 20)
    for name, second in ((SOL, 12), (ETH, 13), (SOL, 14), (ETH, 14)):
        reports.take(name, second, "LONG")
    (boundary,) = reports.due(BTC, 21, "SHORT")
    assert [(found.instrument, found.at_us) for found in boundary.transitions] == [
        (SOL, now(12)), (ETH, now(13)), (ETH, now(14)), (SOL, now(14)), (BTC, now(21)),
    ]  # fmt: skip


def test_repeats_are_dropped():
    reports = started()
    for second in (11, 12):
        reports.take(BTC, second, "LONG")
    for second in (10, 11, 12, 11):
        assert reports.take(BTC, second, "LONG") == []
    found = reports.due(ETH, 12)
    assert [len(boundary.marks) + len(boundary.transitions) for boundary in found] == [2, 3]


def test_a_repeat_of_a_late_transition_is_dropped():
    reports = started()
    reports.take(BTC, 20)
    for _ in range(2):
        reports.take(ETH, 12, "LONG")
    (boundary,) = reports.due(BTC, 21)
    assert len(boundary.transitions) == 1


def test_who_is_not_expected_is_not_heard():
    reports = started()
    reports.take(SOL, 11, "LONG")
    assert SOL not in reports.barrier.state.waiting and SOL not in reports.barrier.state.reported_us


def test_when_all_others_are_dead_it_goes_on_alone():
    reports = Reports(BTC, ETH, SOL)
    for name in (BTC, ETH, SOL):
        reports.take(name, 10)
    reports.take(BTC, 16)
    assert [reports.take(BTC, second) for second in (17, 18)] == [[17], [18]]


def test_it_stands_still_when_all_are_dead_and_goes_on_after_any_time():
    reports = started()
    assert reports.take(BTC, 100_000) == [100_000] and reports.left_out == [ETH]
    assert reports.take(ETH, 100_001) == [] and reports.take(BTC, 100_001) == [100_001]


def test_when_the_furthest_is_no_longer_expected_the_others_go_on():
    reports = Reports(BTC, ETH, SOL)
    for name in (BTC, ETH, SOL):
        reports.take(name, 10)
    reports.take(SOL, 100)
    reports.barrier.expect([BTC, ETH])
    assert reports.take(BTC, 101) == [101]
    assert reports.take(ETH, 102) == [] and reports.take(BTC, 102) == [102]


def test_who_is_expected_anew_is_waited_for_and_then_left_out():
    reports = started()
    for second in range(11, 31):
        reports.take(BTC, second)
        assert reports.take(ETH, second) == [second]
    reports.barrier.expect([BTC, ETH, SOL])
    for second in range(31, 36):
        assert reports.take(BTC, second) == [] and reports.take(ETH, second) == []
    assert reports.take(BTC, 36) == [31, 32, 33, 34, 35] and reports.left_out == [SOL]


def test_what_waits_is_within_five_seconds():
    reports = started()
    for second in range(11, 2_000):
        reports.take(BTC, second)
        assert len(reports.barrier.state.waiting[BTC]) <= BEHIND_US // SECOND


def test_transitions_without_marks_are_bounded():
    reports = started()
    for number in range(WAITING + 10):
        reports.barrier.take(transition(now(11) + number))
    assert len(reports.barrier.state.waiting[BTC]) == WAITING


def test_late_transitions_are_bounded_and_the_newest_are_kept():
    reports = started()
    reports.take(BTC, 5_000)
    for number in range(LATE_TRANSITIONS + 10):
        reports.barrier.take(transition(now(20) + number, instrument=ETH))
    assert len(reports.barrier.state.late) == LATE_TRANSITIONS
    assert reports.barrier.state.late[0].at_us == now(20) + 10


def test_an_account_may_wait_for_longer():
    desk = Desk(strategy(instruments=[BTC, ETH]), behind_seconds=60)
    desk.at(1)
    desk.account.feed([mark(now(61))])
    assert desk.account.state.barrier.left_out == []
    desk.account.feed([mark(now(61.5))])
    assert desk.account.state.barrier.left_out == [ETH]
    desk.account.feed([mark(now(1.5), instrument=ETH)])
    assert desk.account.state.barrier.left_out == []


# -- what the account makes of it


def left_out_with_a_position() -> Desk:
    """Return an account that is long in BTC and ETH, at second 20; ETH has been silent since 3."""
    desk = Desk(strategy(instruments=[BTC, ETH], size_pct=1))
    desk.at(1, transition(now(1)), transition(now(1), instrument=ETH))
    desk.at(2)
    desk.at(3)
    for second in range(4, 21):
        desk.account.feed([mark(now(second))])
    desk.take()
    assert desk.portfolio.at_us == now(20) and len(desk.portfolio.positions) == 2
    return desk


def test_an_entry_of_a_late_transition_is_refused_as_stale():
    desk = Desk(strategy(instruments=[BTC, ETH]))
    desk.at(1)
    for second in range(2, 12):
        desk.account.feed([mark(now(second))])
    desk.account.feed([transition(now(5), instrument=ETH), mark(now(5), instrument=ETH), mark(now(12))])
    desk.take()
    (refused,) = desk.refused
    assert (refused.reason, refused.found, refused.at_us) == ("stale_data", "the trigger came 7 s late", now(12))


def test_an_exit_of_a_late_transition_passes():
    desk = left_out_with_a_position()
    desk.account.feed([transition(now(5), "IDLE", 0.0, instrument=ETH), mark(now(21))])
    desk.take()
    assert desk.orders[-1].status == "PLACED" and desk.proposals[-1].cause == f"transition:{ETH}:{now(5)}"
    desk.at(22, price=90.0)  # BTC's mark comes first, so that ETH's is late once more
    desk.at(23, price=90.0)
    assert desk.fills[-1].instrument == ETH and desk.fills[-1].price == 90


def test_an_alert_for_an_instrument_that_is_silent_is_refused_as_stale():
    desk = Desk(strategy(instruments=[BTC, ETH], source="tv"))
    desk.at(1)
    for second in range(2, 9):
        desk.account.feed([mark(now(second))])
    desk.account.feed([alert(now(8), instrument=ETH), mark(now(9))])
    desk.take()
    assert [refused.found for refused in desk.refused] == ["last mark 8 s old, limit 5 s"]


def test_a_late_transition_behind_a_minute_is_not_mistaken_for_a_new_one():
    desk = Desk(strategy(instruments=[BTC, ETH]))
    desk.at(1)
    desk.account.feed([mark(now(100))])
    desk.account.feed([transition(now(100), instrument=ETH), mark(now(100), instrument=ETH)])  # 100 is over
    desk.account.feed([mark(now(101)), mark(now(101), instrument=ETH)])
    desk.take()
    assert [refused.found for refused in desk.refused] == ["the trigger came 1 s late"]


def test_a_minute_is_longer_than_a_silence_that_is_waited_for():
    assert BEHIND_US < MINUTE
