"""Webhooks as points: accepted and rejected ones, in the bucket of trading, and the same point when written again."""

from schemas.webhooks import Webhook
from services.sink.lines import Lines
from services.sink.points import Buckets
from tests.build import BTC, T0


def point(id: str = "a-1", status: str = "accepted", received_us: int = T0):
    found = Webhook("tradingview", id, status, received_us, 1_500, instrument=BTC if status == "accepted" else None)
    (made,) = Lines(Buckets(), "binance").points(found)
    return made


def test_a_webhook_is_a_point_with_its_id_and_latency():
    made = point()
    assert (made.bucket, made.series) == ("trading", "webhooks,source=tradingview,status=accepted")
    assert made.fields == 'signal_id="a-1",latency_ms=1.5' and made.time_ns.startswith(str(T0)) and len(made.time_ns) == len(str(T0)) + 3


def test_a_rejected_one_is_told_apart():
    assert point(status="rejected").series == "webhooks,source=tradingview,status=rejected"


def test_two_of_one_instant_are_two_points_and_one_written_again_is_the_same():
    assert point("a-1").time_ns != point("a-2").time_ns and point("a-1") == point("a-1")


def test_an_id_that_looks_like_line_protocol_stays_within_its_field():
    assert point('a",b=1 2\n').fields == 'signal_id="a\\",b=1 2\\n",latency_ms=1.5'
