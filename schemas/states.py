"""Messages of the topic `states`: a key's state, so that a replay can start in the middle."""

from typing import Literal

from msgspec import Raw, Struct

from schemas.market import Micros


class Checkpoint(Struct, tag="checkpoint", gc=False):
    """The state of a key after all records of its topic before `next_offset`."""

    key: str  # instrument or account
    topic: Literal["market", "signals"]  # that the state was made of
    at_us: Micros  # the boundary whose record completed it
    version: int  # of the core; other versions cannot go on from here
    params: str  # hash of the operators and their parameters, or of the account and its strategies
    partition: int
    next_offset: int
    state: Raw  # the snapshot as JSON: of core.engine, or of core.accounts.state
