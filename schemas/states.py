"""Messages of the topic `states`: a key's state, so that a replay can start in the middle."""

from msgspec import Raw, Struct

from schemas.market import Micros


class Checkpoint(Struct, tag="checkpoint", gc=False):
    """The state of a key after all records of `market` before `next_offset`."""

    instrument: str
    at_us: Micros  # the boundary whose record completed it
    version: int  # of the core; other versions cannot go on from here
    params: str  # hash of the operators and their parameters
    partition: int
    next_offset: int
    state: Raw  # core.engine.Snapshot as JSON
