"""An engine fed by hand, and what it published."""

from core.engine import Engine
from core.topology import Topology
from schemas.bars import Bar, Candle, Late
from schemas.signals import Mark, Transition
from tests.build import BTC, MINUTE, SECOND, T0

SMALL = Topology((SECOND, MINUTE))


class Driven:
    """An engine and short questions about its output; times are seconds since T0."""

    def __init__(self, *messages, topology: Topology = SMALL) -> None:
        self.engine = Engine(topology, BTC)
        self.feed(*messages)

    def feed(self, *messages) -> "Driven":
        for message in messages:
            self.engine.feed([message])
        return self

    def bars(self, window_us: int = SECOND) -> dict[float, Bar]:
        """Return the bars of a window, by when it opened."""
        return {(bar.open_us - T0) / SECOND: bar for bar in self.engine.bars if type(bar) is Bar and bar.window_us == window_us}

    def complete(self, window_us: int = SECOND) -> dict[float, bool]:
        return {opened: bar.complete for opened, bar in self.bars(window_us).items()}

    def candles(self, window_us: int) -> list[Candle]:
        return [item for item in self.engine.bars if type(item) is Candle and item.window_us == window_us]

    def lates(self) -> list[Late]:
        return [item for item in self.engine.bars if type(item) is Late]

    def marks(self) -> dict[float, Mark]:
        """Return the marks by their boundary."""
        return {(item.at_us - T0) / SECOND: item for item in self.engine.signals if type(item) is Mark}

    def transitions(self) -> list[Transition]:
        return [item for item in self.engine.signals if type(item) is Transition]
