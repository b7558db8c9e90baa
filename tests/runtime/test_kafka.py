"""The adapters on a real broker."""

import asyncio
import gc
import logging
import time
import uuid

import pytest
import uvloop
from aiokafka.errors import KafkaError

from runtime.bus import Committed, Partition
from runtime.kafka import KafkaBus, KafkaProducer, ensure_topics
from runtime.kafka_clients import heard
from runtime.memory import partition_of
from schemas.topics import BARS, MARKET, TOPICS, Topic

PATIENCE_SECONDS = 30.0
T_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000


@pytest.fixture
async def bus(kafka) -> KafkaBus:
    made = KafkaBus(kafka.bootstrap, f"{uuid.uuid4().hex[:8]}.")
    await made.ready()
    return made


async def write(bus: KafkaBus, *values: bytes, key: str = "k") -> None:
    producer = await bus.producer("test")
    await asyncio.gather(*[await producer.send(bus.name(MARKET), key, value, T_US + n * 1000) for n, value in enumerate(values)])
    await producer.stop()


async def read(reader, count: int) -> list[bytes]:
    values = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(values) < count:
            for records in (await reader.poll(0.1, 100)).values():
                values += [record.value for record in records]
    return values


async def test_topics_are_made_once_with_the_tables_facts(bus, capsys):
    from aiokafka.admin import AIOKafkaAdminClient

    await bus.ready()
    admin = AIOKafkaAdminClient(bootstrap_servers=bus.bootstrap)
    await admin.start()
    found = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics([bus.name(topic) for topic in TOPICS])}
    await admin.close()
    assert found == {bus.name(topic): topic.partitions for topic in TOPICS}
    assert "topic_differed" not in capsys.readouterr().out


async def test_a_topic_with_other_partitions_is_named_and_left(bus, capsys):
    await ensure_topics(bus.bootstrap, bus.prefix, [Topic("market", (), "instrument", 7, -1, "")])
    said = capsys.readouterr()
    assert "topic_differed" in said.out + said.err
    assert "7" in said.out + said.err


async def test_records_arrive_in_order_where_the_memory_bus_would_put_them(bus):
    values = [str(n).encode() for n in range(500)]
    await write(bus, *values, key="binance:BTC-USDT")
    reader = await bus.consumer(bus.prefix, [MARKET])
    assert await read(reader, 500) == values
    at = Partition(bus.name(MARKET), partition_of("binance:BTC-USDT", 12))
    assert reader.position(at) == 500
    assert (await reader.ends([at]))[at] == 500
    assert (await reader.since([at], T_US + 101_000))[at] == 101
    await reader.stop()


@pytest.mark.parametrize("ahead_us", [2 * HOUR_US, 10_000 * HOUR_US])
async def test_a_record_whose_time_lies_ahead_is_taken_as_of_now(bus, ahead_us):
    began_us = time.time_ns() // 1_000
    producer = await bus.producer("test")
    for at_us in (began_us + ahead_us, T_US):
        await asyncio.wait_for(await producer.send(bus.name(MARKET), "k", b"1", at_us), PATIENCE_SECONDS)
    await producer.stop()
    ended_us = time.time_ns() // 1_000
    ahead, past = [record.timestamp * 1_000 async for record in bus.tail(MARKET)]
    assert began_us - 1_000 <= ahead <= ended_us and past == T_US


async def test_a_commit_carries_its_note_and_a_group_goes_on_behind_it(bus):
    await write(bus, b"1", b"2", b"3")
    at = Partition(bus.name(MARKET), partition_of("k", 12))
    reader = await bus.consumer(bus.prefix, [MARKET])
    await read(reader, 3)
    assert await reader.commit({at: 2}, {at: "a note"})
    await reader.stop()
    reader = await bus.consumer(bus.prefix, [MARKET])
    assert await read(reader, 1) == [b"3"]
    assert await reader.committed([at]) == {at: Committed(2, "a note")}
    assert not await reader.commit({Partition(bus.name(BARS), 0): 1})  # not assigned, so not committed
    await reader.stop()


async def test_what_a_listener_raises_ends_the_reader(bus):
    async def broken(_reader, _partitions):
        raise KeyError("our own bug")

    reader = await bus.consumer(bus.prefix, [MARKET], on_assigned=broken)
    with pytest.raises(KeyError, match="our own bug"):
        await read(reader, 1)
    await reader.stop()


async def test_the_tail_ends_where_the_topic_ended(bus):
    assert [record async for record in bus.tail(MARKET)] == []
    await write(bus, *(str(n).encode() for n in range(50)))
    assert len([record async for record in bus.tail(MARKET)]) == 50
    assert [record.value async for record in bus.tail(MARKET, last_records=2)] == [b"48", b"49"]


async def test_more_copies_than_brokers_are_refused_by_name_of_the_topic(own_kafka):
    broker = own_kafka()
    with pytest.raises(KafkaError, match=r"topic \S+ was not created: expected 3 brokers, found fewer"):
        await asyncio.wait_for(ensure_topics(broker.bootstrap, topics=(MARKET,), replication=3), PATIENCE_SECONDS)


async def test_a_full_buffer_makes_the_sender_wait(own_kafka):
    broker = own_kafka()
    await ensure_topics(broker.bootstrap)
    producer = await KafkaProducer.start(broker.bootstrap, "test", buffer_bytes=1_000)
    broker.pause()
    sent = [await producer.send("market", "k", b"x" * 600, T_US) for _ in range(2)]
    waiting = asyncio.ensure_future(producer.send("market", "k", b"x", T_US))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    assert producer.queued_bytes == 1_200
    broker.resume()
    await asyncio.gather(*sent, await waiting)
    assert producer.queued_bytes == 0
    await producer.stop()


async def test_a_broker_that_is_away_at_the_start_is_waited_for_and_named_once(own_kafka, capsys):
    broker = own_kafka()
    broker.stop()
    waiting = asyncio.ensure_future(ensure_topics(broker.bootstrap))
    done, _ = await asyncio.wait([waiting], timeout=1.5)
    assert not done
    await asyncio.to_thread(broker.start)
    await asyncio.wait_for(waiting, PATIENCE_SECONDS)
    said = "".join(capsys.readouterr())
    assert said.count("broker_missed") == said.count("broker_found") == 1


async def test_records_sent_while_the_broker_restarts_arrive_once_and_in_order(own_kafka):
    broker = own_kafka()
    bus = KafkaBus(broker.bootstrap)
    await bus.ready()
    producer = await bus.producer("test")
    sent = [await producer.send("market", "k", str(n).encode(), T_US) for n in range(100)]
    restart = asyncio.ensure_future(asyncio.to_thread(lambda: (broker.kill(), broker.start())))
    for n in range(100, 400):
        sent.append(await producer.send("market", "k", str(n).encode(), T_US))
        await asyncio.sleep(0.002)
    await restart
    await asyncio.wait_for(asyncio.gather(*sent), PATIENCE_SECONDS)
    await producer.stop()
    assert [int(record.value) async for record in bus.tail(MARKET)] == list(range(400))


async def test_a_reader_whose_broker_went_away_stops_while_its_fetch_waits(own_kafka):
    broker = own_kafka()
    bus = KafkaBus(broker.bootstrap)
    await bus.ready()
    await write(bus, b"1")
    reader = await bus.consumer("test", [MARKET])
    assert await read(reader, 1) == [b"1"]
    waits = asyncio.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("Failed fetch messages"):
                waits.set()  # aiokafka says this and then waits its back-off out

    heard = Heard()
    fetcher = logging.getLogger("aiokafka.consumer.fetcher")
    fetcher.addHandler(heard)
    try:
        await asyncio.to_thread(broker.kill)
        await asyncio.wait_for(waits.wait(), PATIENCE_SECONDS)
        await asyncio.wait_for(reader.stop(), PATIENCE_SECONDS)
    finally:
        fetcher.removeHandler(heard)
    assert all(fetch.done() for fetch in reader._consumer._fetcher._pending_tasks)


async def test_a_commit_that_fails_after_its_time_is_no_bug_of_ours():
    complaints, ended = [], asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))

    async def commits() -> None:
        try:
            await asyncio.sleep(0.05)
            raise KafkaError("the coordinator has moved")
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.shield(heard(commits)())
    await ended.wait()
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


def test_a_client_whose_connections_were_closed_below_it_asks_again_and_stops(kafka):
    async def asked() -> bool:
        bus = KafkaBus(kafka.bootstrap, f"{uuid.uuid4().hex[:8]}.")
        await bus.ready()
        await write(bus, b"1")
        reader = await bus.consumer("test", [MARKET])
        await read(reader, 1)
        client = reader._consumer._client
        for connection in list(client._conns.values()):
            connection._read_task.cancel()  # it has not yet seen what happens now, and
            connection._reader.feed_data(b"?")  # something unread makes the connection look alive
            connection._writer.transport.abort()
        await asyncio.sleep(0.01)  # the transports are closed in the loop's next turns
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await client.force_metadata_update()
                await write(bus, b"2")
                return await read(reader, 1) == [b"2"]
        finally:
            await asyncio.wait_for(reader.stop(), PATIENCE_SECONDS)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the services' loop; that of the tests says nothing here
        assert runner.run(asked())
