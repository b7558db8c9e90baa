"""aiokafka's clients, started and stopped, with what version 0.14 gets wrong when a broker goes away mended."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError


def broken(send: Callable) -> Callable:
    """Let a request on a closed transport fail as on a broken connection, which is refused, reported and made anew.

    aiokafka expects an OSError of it. uvloop raises RuntimeError, which ended the task that keeps metadata: the client then never saw
    a broker that had come back, and who waited for metadata, in a stop too, waited for ever.
    """

    @wraps(send)
    def mended(connection: AIOKafkaConnection, *given: object, **named: object) -> object:
        try:
            return send(connection, *given, **named)
        except KafkaError:  # which is a RuntimeError too
            raise
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"connection to {connection.host}:{connection.port} was closed: {error}") from error

    return mended


AIOKafkaConnection.send = broken(AIOKafkaConnection.send)


async def started(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Start an aiokafka client, and close it where that fails."""
    try:
        await client.start()
    except BaseException:
        await client.stop()
        raise


def heard(call: Callable[..., Coroutine]) -> Callable[..., asyncio.Future]:
    """Let a call fail after its caller has gone: aiokafka shields a commit, so one that took too long fails when nobody asks any more."""

    def begin(*given: object) -> asyncio.Future:
        running = asyncio.ensure_future(call(*given))
        running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return running

    return begin


async def stopped(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer, one too whose broker is away.

    aiokafka 0.14 cancels its fetches and awaits each; one that is waiting out its back-off raises the CancelledError, which
    leaves `stop` half done and looks like a cancellation of the caller.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        if asyncio.current_task().cancelling():
            raise
        fetches = list(consumer._fetcher._pending_tasks)
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        await consumer._client.close()
