"""The topic table and the labels of instruments: facts that others spell out and must not change unseen."""

import pytest

from schemas.instruments import labels
from schemas.topics import DEADLETTERS, FOREVER_MS, MARKET, TOPIC_OF, TOPICS, named

DAY_MS = 86_400_000


def test_the_table_is_the_designs():
    assert [(topic.name, topic.key, topic.partitions, topic.retention_ms) for topic in TOPICS] == [
        ("market", "instrument", 12, 7 * DAY_MS),
        ("books", "instrument", 12, DAY_MS),
        ("bars", "instrument", 12, 30 * DAY_MS),
        ("signals", "account", 3, 30 * DAY_MS),
        ("trading", "account", 3, FOREVER_MS),
        ("states", "instrument or account", 12, 30 * DAY_MS),
        ("webhooks", "source", 3, 30 * DAY_MS),
        ("backtests", "run", 1, FOREVER_MS),
        ("deadletters", "topic", 1, 14 * DAY_MS),
    ]


def test_keeping_the_past_is_kafkas_minus_one():
    assert FOREVER_MS == -1


def test_a_message_type_belongs_to_one_topic_under_one_name():
    types = [message for topic in TOPICS for message in topic.messages]
    tags = [message.__struct_config__.tag for message in types]
    assert len(set(types)) == len(types) == len(set(tags)) == len(TOPIC_OF)


def test_a_stack_may_put_a_prefix_before_its_topics():
    assert named("", MARKET) == "market" and named("backtest-7-", DEADLETTERS) == "backtest-7-deadletters"


@pytest.mark.parametrize(
    ("instrument", "exchange", "symbol", "compact"),
    [
        ("binance:BTC-USDT", "binance", "BTC/USDT", "BTCUSDT"),
        ("binance_futures:BTC-USDT-PERP", "binance_futures", "BTC/USDT", "BTCUSDT"),
        ("okx:BTC-USDT", "okx", "BTC/USDT", "BTCUSDT"),
        ("okx:BTC-USDT-PERP", "okx_futures", "BTC/USDT", "BTCUSDT"),
        ("bybit:BTC-USDT-PERP", "bybit_futures", "BTC/USDT", "BTCUSDT"),
        ("deribit:BTC-USD-241227", "deribit", "BTC/USD-241227", "BTCUSD-241227"),
    ],
)
def test_an_instrument_is_labelled_for_each_reader(instrument, exchange, symbol, compact):
    assert labels(instrument) == (exchange, symbol, compact)


@pytest.mark.parametrize("wrong", ["", "BTC-USDT", ":BTC-USDT", "binance:", "binance:BTCUSDT", "binance:BTC-", "a:B-C-D-E"])
def test_what_is_no_instrument_is_refused(wrong):
    with pytest.raises(ValueError) as refused:
        labels(wrong)
    assert str(refused.value) == f"expected an instrument like binance:BTC-USDT or binance_futures:BTC-USDT-PERP, was {wrong!r}"
