"""The drawdown breaker: opens with its reason, cools, half-opens for one position, closes on profit, opens on loss, is reset."""

from decimal import Decimal as D

from core.accounts.params import Risk
from schemas.trading import Breaker, StrategyStats
from tests.build import command, transition
from tests.core.accounts.desk import ETH, OPEN, Desk, now, strategy

BTC = "binance:BTC-USDT"
RISK = Risk(exposure_pct=100, instrument_exposure_pct=100, cooldown_seconds=0, daily_loss_pct=100, drawdown_pct=10, breaker_seconds=60)


def fallen(price: float = 80.0, **rest) -> Desk:
    """Return an account that is half long in BTC from 100, at second 3, when the price falls: to 80 takes 10 % of its value."""
    desk = Desk(strategy(size_pct=50, instruments=[BTC, ETH], **rest), risk=RISK)
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, price=price)
    return desk


def breakers(desk: Desk) -> list[tuple[str, str, int]]:
    return [(message.state, message.reason, message.total) for message in desk.all(Breaker)]


def after(desk: Desk, *, gain: bool) -> Desk:
    """Let a half-open account at second 63 go out and trade once more, with a gain or a loss."""
    desk.at(64, transition(now(64), instrument=ETH), price=80.0)
    desk.at(65, price=80.0)
    desk.at(66, transition(now(66), "IDLE", 0.0, instrument=ETH), price=81.0 if gain else 79.0)
    desk.at(67, price=81.0 if gain else 79.0)
    return desk


def flat_and_half_open() -> Desk:
    desk = fallen()
    desk.at(4, transition(now(4), "IDLE", 0.0), price=80.0)
    desk.at(5, price=80.0)
    desk.at(63, price=80.0)
    return desk


def test_it_stays_closed_just_inside_the_limit():
    assert breakers(fallen(80.01)) == []


def test_it_opens_at_the_limit_and_says_why():
    #  50 at 80 and 5,000 in cash: 9,000 of 10,000
    (message,) = fallen().all(Breaker)
    assert (message.state, message.reason, message.open, message.total) == ("open", "drawdown", True, 1)
    assert message.found == "10.00 % below 10000.00, limit 10 %"


def test_it_counts_from_the_highest_value_since_it_was_armed():
    #  50 at 120 make 11,000; at 98 they make 9,900
    desk = fallen(120.0)
    desk.at(4, price=98.0)
    assert desk.all(Breaker)[-1].found == "10.00 % below 11000.00, limit 10 %"


def test_open_it_refuses_entries():
    desk = fallen()
    desk.at(4, transition(now(4), instrument=ETH), price=80.0)
    assert desk.reasons() == ["circuit_open"] and desk.portfolio.breaker == "open"


def test_it_does_not_open_twice_for_one_loss():
    desk = fallen()
    for second in (4, 5, 62, 63, 64, 200):  # still down by as much, and half-open from 63 on
        desk.at(second, price=80.0)
    assert breakers(desk) == [("open", "drawdown", 1), ("half_open", "cooled", 1)]


def test_it_cools_for_just_as_long_as_it_is_told():
    desk = fallen()
    desk.at(62.999, price=80.0)
    assert desk.portfolio.breaker == "open"
    desk.at(63, price=80.0)
    assert desk.portfolio.breaker == "half_open"
    assert desk.all(Breaker)[-1].found == "60 s have passed"


def test_half_open_it_lets_one_position_in():
    desk = flat_and_half_open()
    desk.at(64, transition(now(64)), transition(now(64), instrument=ETH), price=80.0)
    assert desk.refused[-1].found == "the breaker is half-open, and a position is there"
    assert desk.reasons() == ["circuit_open"] and desk.orders[-1].instrument == BTC


def test_half_open_a_profit_closes_it():
    desk = after(flat_and_half_open(), gain=True)
    assert breakers(desk)[2:] == [("closed", "recovered", 1)]


def test_half_open_a_loss_opens_it_again():
    desk = after(flat_and_half_open(), gain=False)
    assert breakers(desk)[2:] == [("open", "half_open_loss", 1)]
    desk.at(126, price=79.0)
    assert desk.portfolio.breaker == "open"  # it cools from its last opening, at 67
    desk.at(127, price=79.0)
    assert desk.portfolio.breaker == "half_open"


def test_half_open_a_break_even_leaves_it_as_it_is():
    desk = flat_and_half_open()
    desk.at(64, transition(now(64)), price=80.0)
    desk.at(65, transition(now(65), "IDLE", 0.0), price=80.0)
    desk.at(66, price=80.0)
    assert desk.closed[-1].result == "breakeven" and desk.portfolio.breaker == "half_open"


def test_half_open_a_further_drawdown_opens_it_again():
    desk = fallen()
    desk.at(63, price=80.0)  # armed at 9,000
    desk.at(64, price=62.0)  # 8,100
    assert breakers(desk)[-1] == ("open", "drawdown", 2)
    assert desk.all(Breaker)[-1].found == "10.00 % below 9000.00, limit 10 %"


def test_a_command_resets_it_and_arms_it_anew():
    desk = fallen()
    desk.at(4, command("reset", now(4)), transition(now(4), instrument=ETH), price=80.0)
    assert breakers(desk)[1:] == [("closed", "reset", 1)] and desk.reasons() == []
    desk.at(5, price=80.0)
    assert desk.portfolio.breaker == "closed"


def test_open_it_halts_the_strategies_and_says_so_at_once():
    desk = fallen()
    assert desk.stats().status == "halted"
    published = desk.at(4, command("reset", now(4)), price=80.0)
    assert [message.status for message in published if type(message) is StrategyStats] == ["running"]


def test_exits_pass_while_it_is_open():
    desk = flat_and_half_open()
    assert desk.quantities() == {} and desk.portfolio.value_usd == D(9_000)


def test_an_account_without_a_drawdown_limit_in_reach_never_opens_it():
    desk = Desk(risk=OPEN)
    desk.at(1, transition(now(1)))
    desk.at(2)
    desk.at(3, price=1.0)
    assert breakers(desk) == []
