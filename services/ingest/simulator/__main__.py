"""`python -m services.ingest.simulator`: an exchange that plays recordings. Point ingest at it by configuration:

BINANCE_WS_URL=ws://127.0.0.1:8090            BINANCE_REST_URL=http://127.0.0.1:8090
BINANCE_FUTURES_WS_URL=ws://127.0.0.1:8090/fstream  BINANCE_FUTURES_REST_URL=http://127.0.0.1:8090
"""

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from aiohttp import web

from runtime import commands
from runtime import log as logs
from runtime.service import unusable
from services.ingest.simulator.player import Player
from services.ingest.simulator.server import Exchange
from services.ingest.simulator.tape import Tape, TapeError, load

log = logs.get()
RECORDINGS = Path("recordings/binance")
BAD_USE = 2
FILES = {"binance": "spot_*.txt*", "binance_futures": "usdm_*.txt*"}


def tapes(folder: Path) -> dict[str, Tape]:
    """Return the tape of each venue that the folder has recordings of. Raises TapeError."""
    found = {venue: sorted(folder.glob(pattern)) for venue, pattern in FILES.items()}
    if not any(found.values()):
        raise TapeError(f"{folder}: expected recordings named {' or '.join(FILES.values())}, found none")
    return {venue: load(paths, venue == "binance_futures") for venue, paths in found.items() if paths}


def exchange(tapes: dict[str, Tape], speed: float, history_us: int, loops: int = 0) -> Exchange:
    """Return an exchange whose venues play their tapes."""
    return Exchange({venue: Player(tape, lambda: time.time_ns() // 1_000, speed, history_us, loops) for venue, tape in tapes.items()})


def main(
    folder: Annotated[Path, typer.Option(help="Recordings: spot_SYMBOL.txt.zst and usdm_SYMBOL.txt.zst.")] = RECORDINGS,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes any free one.")] = 8090,
    speed: Annotated[float, typer.Option(min=0, help="1 is as recorded; 0 is as fast as taken.")] = 1.0,
    history_minutes: Annotated[float, typer.Option(min=0, help="First play so much of the past at full speed, thinned.")] = 0.0,
    loops: Annotated[int, typer.Option(min=0, help="Play the recording so often behind the past, then end; 0 is without end.")] = 0,
) -> None:
    """Play recorded market data as Binance would; from one loop to the next, times and ids go on."""
    logs.setup("simulator")
    try:
        there = exchange(tapes(folder), speed, int(history_minutes * 60e6), loops)
    except (TapeError, OSError) as error:
        print(f"simulator: --folder is {str(folder)!r}; TapeError: {error}", file=sys.stderr)
        raise typer.Exit(BAD_USE) from error
    uvloop.run(_serve(there, host, port))


async def _serve(there: Exchange, host: str, port: int) -> None:
    runner = web.AppRunner(there.app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        print(f"simulator: {unusable(error, '--port', port, '--host', host)}", file=sys.stderr)
        raise SystemExit(BAD_USE) from error
    log.info("simulator_started", address=f"{host}:{runner.addresses[0][1]}", venues=",".join(there.players))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    playing = asyncio.ensure_future(there.play())
    waiting = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((playing, waiting), return_when=asyncio.FIRST_COMPLETED)
    try:
        if playing.done():
            playing.result()  # raises what ended it
    finally:
        playing.cancel()
        await runner.cleanup()
        log.info("simulator_stopped")


if __name__ == "__main__":
    commands.alone(main, "simulator")
