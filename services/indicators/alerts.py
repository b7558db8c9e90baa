"""Accepted webhooks become alerts, one for each account with a strategy that names the source and trades the instrument.

An alert is acknowledged before its webhook is committed, so a crash repeats some: with the same source, id and time, by which
an account knows them. What comes twice within one run is dropped here.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

from core.accounts.account import TWIN_US
from core.accounts.params import AccountParams
from core.clock import DAY_US
from runtime import log as logs
from runtime.bus import Bus, Consumer, Partition, Producer, Record
from runtime.metrics import Metrics
from schemas.codec import Codec, Place, encode
from schemas.signals import Alert
from schemas.topics import DEADLETTERS, SIGNALS, WEBHOOKS
from schemas.webhooks import Webhook

log = logs.get()
STAGE = "alerts"
POLL_SECONDS = 0.1
POLL_RECORDS = 500
REMEMBERED = 10_000  # ids


class Alerts:
    """Reads `webhooks` as one of a group, and writes `signals`."""

    def __init__(self, accounts: Mapping[str, AccountParams], bus: Bus, producer: Producer, metrics: Metrics) -> None:
        self._accounts, self._bus, self._producer, self._metrics = accounts, bus, producer, metrics
        self._codec = Codec(WEBHOOKS)
        self._seen: dict[tuple[str, str], int] = {}  # when an id was last received
        self._consumed = metrics.stream_messages_consumed_total.labels(STAGE, WEBHOOKS.name)
        self._produced = metrics.stream_messages_produced_total.labels(STAGE, SIGNALS.name)
        self._repeats = metrics.stream_duplicates_total.labels(STAGE, WEBHOOKS.name)

    async def run(self, group: str) -> None:
        """Go on until cancelled."""
        consumer = await self._bus.consumer(group, (WEBHOOKS,))
        try:
            while True:
                await self.turn(consumer)
        finally:
            await consumer.stop()

    async def turn(self, consumer: Consumer) -> None:
        """Take what has come: send, wait for the broker, commit."""
        found = await consumer.poll(POLL_SECONDS, POLL_RECORDS)
        sent = [await one for records in found.values() for record in records for one in self._sends(record)]
        await asyncio.gather(*sent)
        if found:
            await consumer.commit({Partition(*at): records[-1].offset + 1 for at, records in found.items()})

    def _sends(self, record: Record) -> Sequence:
        """Return the sends that a record asks for."""
        key = record.key.decode("utf-8", "replace") if record.key else ""
        decoded = self._codec.decode(record.value, Place(WEBHOOKS.name, record.partition, record.offset), key)
        self._consumed.inc(len(decoded.messages) + decoded.unknown + len(decoded.errors))
        sends = []
        for error in decoded.errors:
            self._metrics.stream_decode_errors_total.labels(STAGE, WEBHOOKS.name).inc()
            self._metrics.stream_dead_letters_total.labels(STAGE, WEBHOOKS.name, error.reason).inc()
            letter = encode([error.letter()])
            sends.append(self._producer.send(self._bus.name(DEADLETTERS), WEBHOOKS.name, letter, time.time_ns() // 1000))
        for webhook in decoded.messages:
            if webhook.status == "accepted" and self._is_new(webhook):
                for account in self.hearing(webhook):
                    sends.append(self._producer.send(self._bus.name(SIGNALS), account, encode([alert_of(webhook)]), webhook.received_us))
                    self._produced.inc()
        return sends

    def _is_new(self, webhook: Webhook) -> bool:
        name, at_us = (webhook.source, webhook.id), webhook.received_us
        if abs(at_us - self._seen.pop(name, -DAY_US)) <= TWIN_US:  # later it is another one: an id may be used again, a day later
            self._seen[name] = at_us
            self._repeats.inc()
            return False
        self._seen[name] = at_us
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True

    def hearing(self, webhook: Webhook) -> list[str]:
        """Return the accounts that have a strategy for it."""
        return [
            name
            for name, params in self._accounts.items()
            if any(
                strategy.source == webhook.source and webhook.strategy in ("", strategy.name) and webhook.instrument in strategy.instruments
                for strategy in params.strategies
            )
        ]


def alert_of(webhook: Webhook) -> Alert:
    return Alert(webhook.source, webhook.id, webhook.instrument, webhook.action, webhook.received_us, webhook.strategy, webhook.size)
