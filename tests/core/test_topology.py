"""The table of operators and its windows: what cannot be is refused with a sentence."""

import pytest

from core.operators import candle, score, trade_state
from core.topology import OPERATORS, VERSION, WINDOWS_US, Topology
from schemas.market import Quotes, Trades
from tests.build import DAY, MINUTE, SECOND


def test_every_operator_has_the_same_five_names():
    for operator in OPERATORS:
        assert {"INPUTS", "Params", "State", "take", "close"} <= set(vars(operator)), operator


def test_every_operator_begins_with_a_docstring():
    assert all(operator.__doc__ for operator in OPERATORS)


def test_only_the_shortest_candle_reads_trades():
    assert [operator for operator in OPERATORS if Trades in operator.INPUTS] == [candle]


def test_windows_are_sorted_and_named_once():
    assert Topology([5 * MINUTE, SECOND, MINUTE, SECOND]).windows_us == (SECOND, MINUTE, 5 * MINUTE)


@pytest.mark.parametrize(
    ("windows_us", "message"),
    [
        ([], "windows: expected at least one, each > 0 us, was []"),
        ([0, SECOND], "windows: expected at least one, each > 0 us, was [0, 1000000]"),
        (
            [2 * SECOND, 3 * SECOND],
            "windows: expected each to divide the next longer and the day, but 2000000 us does not divide 3000000 us",
        ),
        ([7 * SECOND], "windows: expected each to divide the next longer and the day, but 7000000 us does not divide 86400000000 us"),
    ],
)
def test_windows_that_cannot_be_are_refused(windows_us, message):
    with pytest.raises(ValueError) as refused:
        Topology(windows_us)
    assert str(refused.value) == message


def test_an_operator_of_trades_and_quotes_is_refused():
    class both:
        __name__ = "both"
        INPUTS = (Trades, Quotes)

    with pytest.raises(ValueError, match="operator both: expected trades or quotes in INPUTS, was both"):
        Topology(operators=(both,))


@pytest.mark.parametrize(
    ("windows_us", "stride_us"),
    [
        (WINDOWS_US, MINUTE),
        ((SECOND,), DAY),
        ((SECOND, 10 * SECOND, MINUTE), 10 * SECOND),
        ((MINUTE, 5 * MINUTE), MINUTE),
        ((SECOND, 5 * MINUTE), 5 * MINUTE),
    ],
)
def test_no_boundary_of_a_folded_or_flat_window_is_jumped_over(windows_us, stride_us):
    assert Topology(windows_us).stride_us == stride_us


def test_the_hash_of_the_default_table_is_known():
    # It stands in every checkpoint: a change here makes those of before incomparable, and VERSION must tell changes of arithmetic.
    assert (VERSION, Topology().hash) == (1, "fa9fbcc1c2b3cd9f")


def test_other_parameters_or_windows_have_another_hash():
    hashes = {
        Topology().hash,
        Topology((SECOND, MINUTE)).hash,
        Topology(params={"trade_state": trade_state.Params(enter=3.0)}).hash,
        Topology(params={"score": score.Params((2.0, 1.0, 1.0, 1.0, 1.0))}).hash,
        Topology(operators=OPERATORS[:-1]).hash,
    }
    assert len(hashes) == 5
