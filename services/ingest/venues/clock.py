"""The venue's clock as one connection shows it, and the times of messages that carry none.

A timed message says E, when the venue sent it, and is received at r. Its offset E - r is the difference of the clocks
less the way's delay, so `r + offset` of an earlier message is never ahead of the venue's clock. The last message's
offset is used, never a minimum or a mean over time: it stays right when a recording is played at any speed.

An untimed message received at r happened at `r + offset`, where the offset is that of the last timed message if it came
at most FRESH_US before. Else the connection was idle or stalled, which cannot be told apart yet: the message waits for
the next timed one and takes its offset. Estimates never fall and never go behind the last timed message before them.
"""

FRESH_US = 200_000  # depth comes each 100 ms while anything changes: two of them missing is a pause
AHEAD_LIMIT_US = 5_000_000  # more than a stalled connection makes of its delay, less than anyone's window
BEHIND_LIMIT_US = 60_000_000  # a connection's backlog, behind a broker that was slow or another connection, lies no further back
REFUSALS_TO_BELIEVE = 20  # so many in a row, and it was our clock that was wrong


class VenueClock:
    """The clock of one connection. All times are microseconds since 1970 UTC, `received_us` is ours.

    A decoder's hot path reads and sets the fields itself where nothing is unusual.
    """

    __slots__ = ("estimate_us", "refused", "seen_us", "sent_us")

    def __init__(self) -> None:
        self.sent_us = 0  # E of the last timed message; 0 until there is one
        self.seen_us = 0  # when it was received
        self.estimate_us = 0  # of the last untimed message: estimates never fall
        self.refused = 0  # timed messages in a row

    def known(self) -> bool:
        return self.sent_us > 0

    def now(self, received_us: int) -> int:
        """Return the venue's clock when something was received; not before the last timed message."""
        passed_us = received_us - self.seen_us
        return self.sent_us + passed_us if passed_us > 0 else self.sent_us

    def see(self, sent_us: int, received_us: int) -> bool:
        """Learn from a timed message. False if its time is ahead of the clock by more than AHEAD_LIMIT_US, or behind by BEHIND_LIMIT_US.

        One that is behind by less is of a backlog: good, but it says nothing of the clock, unless all do.
        """
        if self.sent_us and self._strange(sent_us, received_us):
            self.refused += 1
            if self.refused < REFUSALS_TO_BELIEVE:
                return 0 <= self.sent_us - sent_us <= BEHIND_LIMIT_US
        self.sent_us, self.seen_us, self.refused = sent_us, received_us, 0
        return True

    def _strange(self, sent_us: int, received_us: int) -> bool:
        if sent_us < self.sent_us:
            return self.sent_us - sent_us > AHEAD_LIMIT_US
        return sent_us - self.sent_us > AHEAD_LIMIT_US and sent_us - self.now(received_us) > AHEAD_LIMIT_US

    def estimate(self, received_us: int) -> int:
        """Return the event time of an untimed message, however long ago the last timed one is; ours if there is none."""
        guess_us = self.now(received_us) if self.sent_us else received_us
        if guess_us > self.estimate_us:
            self.estimate_us = guess_us
        return self.estimate_us

    def estimate_back(self, received_us: int, earlier_us: int) -> int:
        """Return the event time of one that waited, by the offset of the timed message that has just come.

        earlier_us: E of the timed message before it, which it followed.
        """
        guess_us = max(earlier_us, self.sent_us + received_us - self.seen_us)
        if guess_us > self.estimate_us:
            self.estimate_us = guess_us
        return self.estimate_us
