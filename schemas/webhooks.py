"""Messages of the topic `webhooks`, keyed by source: what the gateway was sent, once it knew the sender."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.market import Micros, Text


class Webhook(Struct, tag="webhook", omit_defaults=True, gc=False):
    """What a sender wants done. Only an accepted one has instrument and action; a rejected one has its letter in `deadletters`."""

    source: Text
    id: Text  # the sender's, or the hash of its body: a source has each once
    status: Literal["accepted", "rejected"]
    received_us: Micros  # when its request came
    processing_us: int  # from then until it was sent to the broker
    body: str = ""  # as it came, without its secret
    instrument: Text | None = None
    action: Literal["buy", "sell", "close"] | None = None
    strategy: Text = ""  # "": all that name the source
    size: Annotated[float, Meta(gt=0, le=1)] = 1.0  # of the strategy's size, or of the position to close
    digest: Text = ""  # of the body: the same id with another one is a conflict
