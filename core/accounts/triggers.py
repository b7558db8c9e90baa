"""What sets a strategy going: a transition of the trade state, an accepted webhook, or an exit rule of its own."""

from decimal import Decimal
from typing import NamedTuple

from core.accounts import money
from core.accounts.ledger import Holding
from core.accounts.params import INTERNAL, Exits, Strategy
from schemas.signals import Alert, Transition

WANTED = {"LONG": "LONG", "SHORT": "SHORT", "IDLE": "EXIT", "buy": "LONG", "sell": "SHORT", "close": "EXIT"}
OTHER = {"LONG": "SHORT", "SHORT": "LONG", "EXIT": "EXIT"}
ALLOWED = {"both": ("LONG", "SHORT"), "long": ("LONG",), "short": ("SHORT",)}


class Trigger(NamedTuple):
    instrument: str
    wanted: str  # LONG, SHORT or EXIT
    cause: str
    source: str
    at_us: int
    late: bool = False
    score: float | None = None
    complete: bool = True
    size: float = 1.0  # of the strategy's size, or of the position to close
    strategy: str = ""  # "": all that hear the source
    by_rule: bool = False  # an exit rule of the strategy


def of_transition(transition: Transition, acted_us: int) -> Trigger:
    """acted_us: the boundary before the one that is acted on."""
    return Trigger(
        transition.instrument,
        WANTED[transition.to_state],
        f"transition:{transition.instrument}:{transition.at_us}",
        INTERNAL,
        transition.at_us,
        transition.at_us <= acted_us,
        transition.score,
        transition.complete,
    )


def of_alert(alert: Alert) -> Trigger:
    return Trigger(
        alert.instrument,
        WANTED[alert.action],
        f"alert:{alert.source}:{alert.id}",
        alert.source,
        alert.at_us,
        size=alert.size,
        strategy=alert.strategy,
    )


def of_exit_rule(strategy: Strategy, holding: Holding, at_us: int, price: Decimal) -> Trigger | None:
    """Return the trigger of the first exit rule that holds, or None. price: what the position is valued at."""
    name = exit_rule(strategy.exits, holding, at_us, price)
    if not name:
        return None
    cause = f"{name}:{holding.instrument}:{at_us}"
    return Trigger(holding.instrument, "EXIT", cause, holding.source, at_us, strategy=strategy.name, by_rule=True)


def exit_rule(exits: Exits, holding: Holding, at_us: int, price: Decimal) -> str:
    """Return the name of the first rule that holds, "" if none does."""
    stop, take, longest = exits.stop_loss_bps, exits.take_profit_bps, exits.max_holding_seconds
    if stop is not None or take is not None:
        gain = money.bps(price, holding.entry) * (1 if holding.qty > 0 else -1)
        if stop is not None and gain <= -stop:
            return "stop_loss"
        if take is not None and gain >= take:
            return "take_profit"
    return "max_holding" if longest is not None and at_us - holding.opened_us >= longest * 1e6 else ""


def heard(strategy: Strategy, trigger: Trigger) -> bool:
    """Return whether a strategy listens to a trigger."""
    if trigger.strategy and trigger.strategy != strategy.name:
        return False
    return strategy.source == trigger.source and trigger.instrument in strategy.instruments


def wanted_by(strategy: Strategy, trigger: Trigger) -> str:
    """Return what a strategy makes of a trigger: LONG, SHORT or EXIT. A direction that it does not trade only closes."""
    wanted = OTHER[trigger.wanted] if strategy.inverted else trigger.wanted
    return wanted if wanted in ALLOWED[strategy.direction] else "EXIT"
