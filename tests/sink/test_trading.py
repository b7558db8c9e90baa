"""Accounts on the Prometheus sink's page: totals as the messages say them, never twice, never less."""

import random
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.memory import MemoryBus, partition_of
from runtime.metrics import FAMILIES, MAIN
from schemas.codec import encode
from schemas.signals import Alert, Command
from schemas.topics import DEADLETTERS, SIGNALS, TRADING
from services.sink import notes
from services.sink.trading import TradingView
from tests.build import BTC, DAY, MINUTE, SECOND, T0
from tests.sink.build import mark, prometheus_sink, put, samples, transition
from tests.sink.build_trading import (
    ACCOUNT,
    breaker,
    closed,
    cycle,
    fill,
    numbered,
    order,
    portfolio,
    position,
    refused,
    run,
    stats,
    trial,
)

PERP = "binance_futures:BTC-USDT-PERP"
ETH = "binance:ETH-USDT"
GOLDEN = Path(__file__).parent / "golden"
FILLS = "trader_trades_total"
MS = 1_000


def day_of_an_account() -> list:
    """Return one of each message, as an account would send them."""
    return numbered(
        stats(instruments=[BTC, ETH], active_signals={BTC: 1}),
        portfolio(),
        order(T0 + SECOND),
        order(T0 + 2 * SECOND, "FILLED"),
        fill(T0 + 2 * SECOND),
        refused(T0 + 3 * SECOND),
        fill(T0 + 4 * SECOND, 1, "50.75", "SELL", slippage_bps=-2.5),
        closed(T0 + 4 * SECOND),
        breaker(T0 + 5 * SECOND),
        cycle(),
        stats(
            T0 + MINUTE,
            [
                ("signals", BTC, "LONG", 2),
                ("placed", BTC, "BUY", 1),
                ("filled", BTC, "BUY", 1),
                ("fills", BTC, "BUY", 1),
                ("fills", BTC, "SELL", 1),
                ("closed", BTC, "profit", 1),
                ("risk", "", "cooldown", 1),
                ("filter", "", "spread", 7),
                ("notional", BTC, "BUY", "50"),
                ("notional", BTC, "SELL", "50.75"),
            ],
            [BTC, ETH],
            win_rate=1.0,
            active_trades={BTC: 1},
            pnl_usd="0.65",
        ),
        portfolio(T0 + MINUTE, [position(), position("-20", ETH)], "open"),
    )


def of_accounts(page: bytes) -> str:
    """Return what the page says of accounts and replays."""
    own = {family.name for family in FAMILIES if family.page == MAIN and not family.name.startswith("crypto_")}
    lines = page.decode().splitlines()
    return "".join(f"{line}\n" for line in lines if line.replace("# HELP ", "").replace("# TYPE ", "").split("{")[0].split()[0] in own)


async def test_what_the_page_says_of_accounts_reads_as_it_did():
    bus = MemoryBus()
    put(bus, *day_of_an_account())
    async with prometheus_sink(bus) as running:
        await running.page("/metrics")
        assert of_accounts(running.sink.pages["/metrics"]()) == (GOLDEN / "trading.txt").read_text()


async def test_every_family_of_the_main_page_is_there_with_the_labels_of_the_table():
    bus = MemoryBus()
    put(bus, *day_of_an_account(), run(), trial(best=True))
    async with prometheus_sink(bus) as running:
        await running.page("/metrics")
        parsed = text_string_to_metric_families(running.sink.pages["/metrics"]().decode())
        found = {(sample.name, *sample.labels) for family in parsed for sample in family.samples}
    names = {name.removesuffix("_bucket"): labels for name, *labels in found}
    wanted = {family.name: family.labels.split() for family in FAMILIES if family.page == MAIN and not family.name.startswith("crypto_")}
    wanted["andre_optimization_duration_seconds"] = ["optimizer", "le"]
    assert {name: names.get(name) for name in wanted} == wanted


async def test_instruments_of_one_symbol_are_one_sample_and_it_is_their_sum():
    bus = MemoryBus()
    totals = [("fills", BTC, "BUY", 2), ("fills", PERP, "BUY", 5), ("notional", BTC, "BUY", "0.1"), ("notional", PERP, "BUY", "0.5")]
    put(bus, stats(totals=totals, instruments=[BTC, PERP], active_trades={BTC: 1, PERP: 1}))
    put(bus, portfolio(positions=[position("50", BTC), position("-20", PERP)]), fill(total=3, notional_total="0.2"))
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert main[FILLS, "flow", "BTC/USDT", "BUY"] == 3 + 5
    assert main["trader_traded_notional_usd_total", "flow", "BTC/USDT", "BUY"] == pytest.approx(0.7)
    assert main["andre_active_trades", "flow", "BTC/USDT"] == 2
    assert main["trader_position_value_usd", "flow", "BTC/USDT"] == 30
    assert main["trading_portfolio_positions_count", ACCOUNT] == 2


async def test_what_was_never_counted_reads_0_and_what_is_undefined_is_absent():
    bus = MemoryBus()
    put(bus, *numbered(stats(instruments=[BTC, ETH]), portfolio(), cycle(triggers=0, proposals=0)))
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    for symbol in ("BTC/USDT", "ETH/USDT"):
        assert [main[FILLS, "flow", symbol, side] for side in ("BUY", "SELL")] == [0, 0]
        assert [main["trading_trades_total", "internal", "flow", symbol, result] for result in ("profit", "loss", "breakeven")] == [0, 0, 0]
        assert [main["andre_signals_total", "internal", "flow", symbol, direction] for direction in ("LONG", "SHORT")] == [0, 0]
        assert main["andre_active_trades", "flow", symbol] == 0
    assert main["trader_risk_rejections_total", "flow", "exposure_cap"] == 0
    assert main["trader_circuit_breaker_trips_total", "drawdown"] == main["trader_circuit_breaker_open",] == 0
    assert str(main["trader_triggers_to_proposals_ratio", ACCOUNT]) == "nan"
    assert not {"andre_win_rate", "andre_trade_slippage", "trader_position_value_usd"} & {name for name, *_ in main}


async def test_a_refusal_of_a_filter_is_no_rejection_of_risk():
    bus = MemoryBus()
    put(bus, stats(), refused(reason="spread", stage="filter"), refused(reason="news", total=4))
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert main["trader_risk_rejections_total", "flow", "news"] == 4
    assert ("trader_risk_rejections_total", "flow", "spread") not in main


async def test_repeats_of_an_account_change_nothing_and_a_hole_is_counted():
    bus = MemoryBus()
    first, second, third, fourth = numbered(stats(), fill(total=1), fill(total=2), fill(total=3))
    fourth.seq = 4
    put(bus, first, second, third, second, fourth, third)
    async with prometheus_sink(bus) as running:
        assert (await running.page("/metrics"))[FILLS, "flow", "BTC/USDT", "BUY"] == 3
        assert running.count("stream_duplicates_total", stage="sink", topic="trading") == 2
        assert running.count("stream_sequence_holes_total", stage="sink", topic="trading") == 1


async def test_an_account_that_began_anew_counts_from_0_and_its_past_is_over():
    bus = MemoryBus()
    put(bus, *numbered(stats(), fill(total=9), breaker(total=2)))
    put(bus, *numbered(stats(T0 + MINUTE, since_us=T0 + MINUTE), fill(T0 + MINUTE, 1, since_us=T0 + MINUTE)), fill(total=10, seq=9))
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert main[FILLS, "flow", "BTC/USDT", "BUY"] == 1
    assert main["trader_circuit_breaker_trips_total", "drawdown"] == 0


async def test_a_page_after_a_restart_says_what_it_said_before():
    bus, pages = MemoryBus(), []
    put(bus, *day_of_an_account())
    for _ in range(3):
        async with prometheus_sink(bus) as running:
            await running.page("/metrics")
            pages.append(of_accounts(running.sink.pages["/metrics"]()))
    assert pages[0] == pages[1] == pages[2]
    assert 'trader_circuit_breaker_trips_total{reason="drawdown"} 1' in pages[0]


def test_reading_goes_on_at_the_last_stats_and_what_is_older_is_in_the_note():
    view, after = TradingView(), TradingView()
    told = [stats(), breaker(total=3), fill(slippage_bps=7.0), *(portfolio(T0 + n * SECOND) for n in range(100)), stats(T0 + MINUTE)]
    for view.offset, message in enumerate(told):
        view.take(message, T0 // MS, True)
    after.restore(note_of(view))
    assert after.begin(500) == 102  # the last portfolio; the last stats are behind it
    assert (after.accounts[ACCOUNT].trips, after.accounts[ACCOUNT].slippage) == ({"drawdown": 3}, {BTC: (7.0, T0)})


def note_of(view: TradingView) -> notes.Note:
    return notes.read(notes.write(view.note(T0 // MS)))


async def test_a_restart_reads_no_more_of_an_account_than_since_its_last_stats():
    bus = MemoryBus()
    put(bus, *numbered(stats(), *(portfolio(T0 + n * SECOND) for n in range(500)), stats(T0 + 500 * SECOND), portfolio(T0 + 501 * SECOND)))
    for taken in (503, 2):
        async with prometheus_sink(bus) as running:
            await running.page("/metrics")
            assert running.sink.changes == taken


async def test_a_new_group_reads_a_day_back():
    bus = MemoryBus()
    put(bus, stats(strategy="past", totals=[("fills", BTC, "BUY", 1)]), at_us=T0 - DAY - SECOND)
    put(bus, stats(totals=[("fills", BTC, "BUY", 1)]), at_us=T0 - DAY + SECOND)
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert {labels[0] for name, *labels in main if name == FILLS} == {"flow"}


async def test_only_what_opens_the_breaker_is_a_trip():
    bus = MemoryBus()
    put(bus, stats(), breaker(total=2), breaker(state="half_open", reason="cooled", total=2), breaker(reason="half_open_loss", total=1))
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert {labels[0]: value for (name, *labels), value in main.items() if name == "trader_circuit_breaker_trips_total"} == {
        "drawdown": 2,
        "half_open_loss": 1,
    }


def test_what_an_account_told_before_it_began_anew_is_not_taken_for_news():
    view = TradingView()
    for message in (breaker(T0 + MINUTE, total=1, since_us=T0 + MINUTE), fill(total=9), breaker(total=9)):
        view.take(message, T0 // MS, True)
    account = view.accounts[ACCOUNT]
    assert (account.since_us, account.trips, account.totals) == (T0 + MINUTE, {"drawdown": 1}, {})


def test_trips_are_not_said_to_be_0_where_the_beginning_was_not_read():
    view = TradingView()
    view.take(stats(T0 + DAY), T0 // MS, True)
    assert not view.accounts[ACCOUNT].complete
    after = TradingView()
    after.restore(note_of(view))
    assert not after.accounts[ACCOUNT].complete


async def test_a_note_that_did_not_fit_has_the_last_day_read_again():
    bus = MemoryBus()
    names = [f"account-{number}-{random.Random(number).random()}" for number in range(300)]
    put(bus, *(stats(account=name, strategy=name, totals=[("fills", BTC, "BUY", n)]) for n, name in enumerate(names)))
    for _ in range(2):
        async with prometheus_sink(bus) as running:
            main = await running.page("/metrics")
            assert [main[FILLS, name, "BTC/USDT", "BUY"] for name in names] == list(range(300))


async def test_gauges_of_a_silent_account_leave_the_page_and_its_totals_stay_for_a_day():
    bus, now = MemoryBus(), [T0]
    put(bus, *day_of_an_account())
    async with prometheus_sink(bus, now_us=lambda: now[0]) as running:
        before = await running.page("/metrics")
        assert before["trading_bots_total",] == before["trading_bots_active_total",] == 1
        now[0] = T0 + 181 * SECOND
        main = await running.page("/metrics")
        names = {name for name, *_ in main}
        assert not {"trading_portfolio_total_value_usd", "andre_pnl_usd", "trading_bot_status", "trader_circuit_breaker_open"} & names
        assert main[FILLS, "flow", "BTC/USDT", "BUY"] == 1
        assert (main["trading_bots_total",], main["trading_bots_active_total",]) == (1, 0)
        now[0] = T0 + DAY + SECOND
        assert FILLS not in {name for name, *_ in await running.page("/metrics")}


async def test_a_strategy_that_is_told_of_no_more_is_no_bot_and_its_totals_stay():
    bus = MemoryBus()
    put(bus, stats(strategy="old", totals=[("fills", BTC, "BUY", 2)]), stats(), stats(T0 + 3 * MINUTE, status="halted"))
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert (main["trading_bots_total",], main["trading_bots_active_total",]) == (1, 0)
    assert [main["trading_bot_status", "flow", status] for status in ("running", "paused", "halted", "error")] == [0, 0, 1, 0]
    assert ("trading_bot_status", "old", "running") not in main
    assert main[FILLS, "old", "BTC/USDT", "BUY"] == 2


async def test_accounts_of_several_partitions_share_the_series_that_do_not_name_them():
    bus = MemoryBus()
    for name, state, reason_total in (("a", "closed", 1), ("b", "open", 2), ("c", "closed", 4)):
        put(bus, stats(strategy=name, account=name), portfolio(breaker=state, account=name), breaker(total=reason_total, account=name))
    assert len({record.partition for record in bus.records(TRADING)}) > 1
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert (main["trading_bots_total",], main["trader_circuit_breaker_open",]) == (3, 1)
    assert main["trader_circuit_breaker_trips_total", "drawdown"] == 7
    assert [main["trading_portfolio_total_value_usd", name] for name in "abc"] == [10000.5] * 3


async def test_the_last_fill_gives_the_slippage_of_its_instrument():
    bus = MemoryBus()
    put(bus, fill(slippage_bps=9.0), fill(T0 + SECOND, 2, slippage_bps=-1.0), fill(instrument=PERP, slippage_bps=3.0))
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert main["andre_trade_slippage", "BTC/USDT", "binance"] == -1.0
    assert main["andre_trade_slippage", "BTC/USDT", "binance_futures"] == 3.0


@pytest.mark.parametrize(
    ("good", "old", "new", "path"),
    [
        (stats(), b'"pnl_usd":"0.5"', b'"pnl_usd":"NaN"', "$.pnl_usd"),
        (stats(), b'"realised_usd":"0.25"', b'"realised_usd":"sNaN"', "$.realised_usd"),
        (stats(totals=[("fills", BTC, "BUY", 1)]), b'"value":"1"', b'"value":"1e999"', "$.totals[0].value"),
        (stats(totals=[("fills", BTC, "BUY", 1)]), b'"instrument":"binance:BTC-USDT"', b'"instrument":"BTC"', "$.totals[0].instrument"),
        (stats(), b'["binance:BTC-USDT"]', b'["BTC"]', "$.instruments"),
        (stats(active_trades={BTC: 1}), b'"active_trades":{"binance:BTC-USDT"', b'"active_trades":{"BTC"', "$.active_trades"),
        (portfolio(positions=[position()]), b'"binance:BTC-USDT"', b'"BTC"', "$.positions[0].instrument"),
        (portfolio(positions=[position()]), b'"qty":"0.5"', b'"qty":"-Infinity"', "$.positions[0].qty"),
        (fill(), b'"price":"100"', b'"price":"inf"', "$.price"),
    ],
)
async def test_money_that_is_no_number_and_names_that_are_none_are_dead_lettered(good, old, new, path):
    bus = MemoryBus()
    assert old in encode(good)
    bus.append("trading", ACCOUNT, encode([order(total=7)])[:-1] + b"," + encode(good).replace(old, new) + b"]", T0)
    async with prometheus_sink(bus) as running:
        assert (await running.page("/metrics"))["trader_orders_placed_total", "flow", "BTC/USDT", "BUY"] == 7
        (letter,) = await running.until(lambda: bus.records(DEADLETTERS))
    assert f'"path":"{path}"'.encode() in letter.value


async def test_a_mode_is_on_every_sample_of_both_pages():
    bus = MemoryBus()
    put(bus, *day_of_an_account(), trial())
    async with prometheus_sink(bus, mode="REPLAY") as running:
        await running.page("/metrics")
        for page in running.sink.pages.values():
            text = page().decode()
            found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
            assert all(sample.labels.get("mode") == "REPLAY" for sample in found)
            assert len(found) == sum(not line.startswith("#") for line in text.splitlines())


async def test_alerts_and_commands_are_no_news_to_the_page():
    bus = MemoryBus()
    put(bus, Alert("tv", "a", BTC, "buy", T0), Command("c", "stop", T0), transition(), key="main")
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert main["crypto_trade_state_transitions_total", "binance", "BTC/USDT", "IDLE", "LONG"] == 1


async def test_an_instrument_of_several_accounts_is_one_series_and_its_total_never_falls():
    bus, name = MemoryBus(), ("crypto_trade_state_transitions_total", "binance", "BTC/USDT", "IDLE", "LONG")
    accounts = [f"account-{number}" for number in range(6)]
    for account in accounts:
        put(bus, transition(total=1), key=account)
    assert len({record.partition for record in bus.records(SIGNALS)}) > 1
    async with prometheus_sink(bus) as running:
        assert (await running.page("/metrics"))[name] == 1
        for account in accounts:
            put(bus, transition(T0 + 2 * MINUTE, total=2), key=account)
            assert (await running.page("/metrics"))[name] == 2
        put(bus, mark(T0 + 3 * MINUTE, since_us=T0 + 3 * MINUTE), key=accounts[0])  # the instrument's state began anew
        assert (await running.page("/metrics"))[name] == 0
    async with prometheus_sink(bus) as running:
        assert (await running.page("/metrics"))[name] == 0


async def test_an_account_that_lags_behind_another_in_its_partition_makes_no_total_fall():
    bus = MemoryBus()
    for total in (1, 2, 3):
        put(bus, transition(T0 + total * MINUTE, total=total), key="a")
    one = next(name for name in (f"account-{number}" for number in range(100)) if same_partition(bus, name, "a"))
    put(bus, transition(T0 + MINUTE, total=1), key=one)
    async with prometheus_sink(bus) as running:
        main = await running.page("/metrics")
    assert main["crypto_trade_state_transitions_total", "binance", "BTC/USDT", "IDLE", "LONG"] == 3


def same_partition(bus: MemoryBus, *keys: str) -> bool:
    return len({partition_of(key, len(bus.partitions(bus.name(SIGNALS)))) for key in keys}) == 1


class Books:
    """An account that fills orders and tells of them as the core does; its own totals are the truth."""

    def __init__(self, bus: MemoryBus, account: str, chance: random.Random) -> None:
        self.bus, self.account, self.chance = bus, account, chance
        self.totals: dict[str, int] = {BTC: 0, PERP: 0}
        self.boundary, self.seq, self.trips = 0, 0, 0
        self.sent: list = []
        self.act()

    def act(self) -> None:
        """Act at the next boundary; every so often repeat what a crash would."""
        at_us, batch = T0 + self.boundary * SECOND, []
        for instrument in self.totals:
            if self.chance.random() < 0.4:
                self.totals[instrument] += 1
                batch.append(fill(at_us, self.totals[instrument], instrument=instrument, strategy=self.account, account=self.account))
        if self.chance.random() < 0.05:
            self.trips += 1
            batch.append(breaker(at_us, total=self.trips, account=self.account))
        if self.boundary % 7 == 0:
            totals = [("fills", instrument, "BUY", total) for instrument, total in self.totals.items()]
            batch.append(stats(at_us, totals, list(self.totals), self.account, account=self.account))
        batch.append(portfolio(at_us, account=self.account))
        for message in batch:
            message.seq, self.seq = self.seq, self.seq + 1
        self.boundary += 1
        self.sent += batch
        if self.chance.random() < 0.1:
            batch = self.sent[-20:]
        self.bus.append("trading", self.account, encode(batch), T0)


@pytest.mark.parametrize("seed", range(8))
async def test_totals_of_accounts_stay_exact_whatever_crashes(seed):
    chance, bus = random.Random(seed), MemoryBus()
    accounts = [Books(bus, f"account-{number}", chance) for number in range(4)]
    for _ in range(6):
        async with prometheus_sink(bus) as running:
            for _ in range(5):
                bus.refuse_commits = chance.random() < 0.4  # what ends now ends as if it had been killed
                for account in accounts:
                    for _ in range(chance.randint(0, 6)):
                        account.act()
                if chance.random() < 0.2:
                    await running.until_read()
                    every = running.sink.consumer.assigned()
                    await bus.rebalance("sink-prometheus", [[at for at in every if at.topic != "trading" or chance.random() < 0.3]])
                    await bus.rebalance("sink-prometheus", [every])
                main = await running.page("/metrics")
                assert [main[FILLS, one.account, "BTC/USDT", "BUY"] for one in accounts] == [sum(one.totals.values()) for one in accounts]
                assert main["trader_circuit_breaker_trips_total", "drawdown"] == sum(one.trips for one in accounts)
                assert running.count("stream_sequence_holes_total", stage="sink", topic="trading") == 0


async def test_the_first_page_after_a_start_has_all_totals():
    bus = MemoryBus()
    put(bus, *day_of_an_account())
    for _ in range(2):
        async with prometheus_sink(bus) as running:
            first = samples(await running.until(running.sink.pages["/metrics"]))
            assert first[FILLS, "flow", "BTC/USDT", "SELL"] == first["trader_circuit_breaker_trips_total", "drawdown"] == 1
