"""The bus in memory behaves as Kafka does where the services rely on it."""

from runtime.bus import Committed, Partition
from runtime.memory import MemoryBus, partition_of
from schemas.topics import BARS, MARKET


def test_keys_go_where_kafkas_own_clients_put_them():
    # Utils.toPositive(Utils.murmur2(key)) % 12 of the Java client: its published test vectors of murmur2, modulo 12
    vectors = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536}
    for key, murmur in vectors.items():
        assert partition_of(key, 12) == (murmur & 0x7FFFFFFF) % 12


async def test_a_member_goes_on_at_its_groups_commit():
    bus = MemoryBus()
    for number in range(3):
        bus.append("market", "k", str(number).encode(), number)
    reader = await bus.consumer("g", [MARKET])
    (at,) = await reader.poll(0, 2)
    await reader.commit({at: 2}, {at: "note"})
    await reader.stop()
    reader = await bus.consumer("g", [MARKET])
    assert await reader.committed([at, Partition("market", 99)]) == {at: Committed(2, "note")}
    assert [record.value for record in (await reader.poll(0, 10))[at]] == [b"2"]


async def test_members_share_the_partitions_and_listeners_hear_of_it():
    bus, heard = MemoryBus(), []

    async def assigned(_reader, partitions):
        heard.append(("assigned", len(partitions)))

    async def revoked(_reader, partitions):
        heard.append(("revoked", len(partitions)))

    await bus.consumer("g", [BARS], on_assigned=assigned, on_revoked=revoked)
    await bus.consumer("g", [BARS])
    assert heard == [("assigned", 12), ("revoked", 12), ("assigned", 6)]


async def test_paused_partitions_bring_nothing_until_they_are_resumed():
    bus = MemoryBus()
    reader = await bus.consumer("g", [MARKET])
    at = Partition("market", bus.append("market", "k", b"", 0).partition)
    reader.pause([at])
    assert await reader.poll(0.001, 10) == {}
    reader.resume([at])
    assert at in await reader.poll(0, 10)


async def test_a_search_by_time_finds_the_first_record_at_or_after_it():
    bus = MemoryBus()
    reader = await bus.consumer("g", [MARKET])
    at = Partition("market", {bus.append("market", "k", b"", ms * 1000).partition for ms in (10, 20, 30)}.pop())
    assert [(await reader.since([at], us))[at] for us in (0, 20_000, 20_999, 31_000)] == [0, 1, 1, 3]
