"""REST under /v1: last values as JSON, and starting and stopping strategies. Errors are problem documents."""

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from msgspec import Raw

from runtime.config import GatewaySettings, span_us
from schemas.codec import encode
from schemas.market import Book
from schemas.signals import Command
from schemas.topics import SIGNALS, named
from services.gateway import answers
from services.gateway.history import Away, History
from services.gateway.problems import Fault, Problem, ProblemDocument, away
from services.gateway.security import same_token
from services.gateway.snapshots import Snapshots
from services.gateway.state import Instrument, State

BARS_LIMIT = 1_000
TIME_LIMIT_US = 253_402_300_799_000_000  # the year 9999
LIST_LIMIT = 1_000
JSON = "application/json"

InstrumentName = Annotated[str, Path(max_length=80, examples=["binance:BTC-USDT"])]
Micros = Annotated[int | None, Query(ge=0, le=TIME_LIMIT_US, description="Microseconds since 1970 UTC")]
Limit = Annotated[int, Query(ge=1, le=LIST_LIMIT)]
Window = Annotated[str, Query(pattern=r"^[1-9][0-9]{0,3}[smhd]$", description="A window as 1s, 1m, 15m, 1h")]


def told(model: type | None, *problems: int, status: int = 200) -> dict:
    """Return what a route answers, for the document: a body of this model, or one of these problems."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"} if model else {}
    problem = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}}
    found: dict = {status: {"description": "Done", "content": {JSON: {"schema": schema}}}}
    return found | {number: {"description": "Not done, and why", "content": problem} for number in problems}


def answer(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type=JSON)


class Rest:
    """The routes. `ready` says why there are no values yet, "" once there are; `put` sends a record and waits for the broker."""

    def __init__(
        self,
        settings: GatewaySettings,
        state: State,
        snapshots: Snapshots,
        history: Callable[[], History | None],
        ready: Callable[[], str],
        put: Callable[[str, str, bytes, int], Awaitable[None]],
    ) -> None:
        self._settings, self._state, self._snapshots, self._history, self._ready, self._put = (
            settings,
            state,
            snapshots,
            history,
            ready,
            put,
        )
        self.router = APIRouter(prefix="/v1")
        self._add("/instruments", self.instruments, told(answers.Instruments, 503), "Every instrument in one line")
        self._add("/instruments/{id}", self.instrument, told(answers.InstrumentBars, 404, 422, 503), "One instrument with its bars")
        self._add("/bars", self.bars, told(answers.Bars, 404, 422, 503), "Closed windows of an instrument")
        self._add("/books/{id}", self.book, told(Book, 404, 422, 503), "The best levels of an order book")
        self._add("/portfolio", self.portfolio, told(answers.Portfolios, 503), "The accounts on paper")
        self._add("/positions", self.positions, told(answers.Positions, 503), "What is held")
        self._add("/trades", self.trades, told(answers.TradeList, 422, 503), "Closed trades, newest first")
        self._add("/refusals", self.refusals, told(answers.RefusalList, 422, 503), "What filters and rules refused, newest first")
        self._add("/strategies", self.strategies, told(answers.Strategies, 503), "Every strategy and its figures")
        for action, handler in (("start", self.start), ("stop", self.stop)):
            answered = told(answers.Asked, 401, 403, 404, 422, 503, status=202)
            extra = {"security": [{"token": []}]}
            given = {"methods": ["POST"], "status_code": 202, "responses": answered, "openapi_extra": extra}
            self.router.add_api_route(f"/strategies/{{name}}/{action}", handler, summary=f"Let a strategy {action}", **given)

    def _add(self, path: str, handler: Callable, responses: dict, summary: str) -> None:
        self.router.add_api_route(path, handler, methods=["GET"], responses=responses, summary=summary, response_class=Response)

    def _check_ready(self) -> None:
        if reason := self._ready():
            raise away(reason)

    def _known(self, name: str) -> Instrument:
        self._check_ready()
        found = self._state.instruments.get(name)
        if found is None:
            raise Problem(404, "nothing was heard of this instrument; /v1/instruments lists those that are known")
        return found

    async def instruments(self) -> Response:
        self._check_ready()

        def made() -> bytes:
            now_us = time.time_ns() // 1000
            return encode(answers.Instruments([self._state.instruments[name].summary(now_us) for name in sorted(self._state.instruments)]))

        return answer(self._snapshots.get("instruments", made))

    async def instrument(self, id: InstrumentName) -> Response:
        of = self._known(id)
        return answer(self._snapshots.get(f"instrument {id}", lambda: encode(of.detail(time.time_ns() // 1000))))

    async def book(self, id: InstrumentName) -> Response:
        of = self._known(id)
        if of.book is None:
            raise Problem(404, "no book of this instrument has come")
        return answer(self._snapshots.get(f"book {id}", lambda: encode(of.book)))

    async def bars(
        self,
        instrument: Annotated[str, Query(max_length=80, examples=["binance:BTC-USDT"])],
        window: Window = "1m",
        from_us: Micros = None,
        to_us: Micros = None,
        limit: Annotated[int, Query(ge=1, le=BARS_LIMIT)] = 300,
    ) -> Response:
        """The last bars that open in [from_us, to_us). Older ones than memory holds come from InfluxDB, where it is there."""
        of, window_us = self._known(instrument), span_us(window)
        start, stop = from_us or 0, TIME_LIMIT_US if to_us is None else to_us
        kept = [bar for bar in of.kept.get(window_us, ()) if start <= bar.open_us < stop][-limit:]
        stored, mark = [], {}
        history = self._history()
        if history and len(kept) < limit:
            oldest = of.kept[window_us][0].open_us if of.kept.get(window_us) else stop
            try:
                stored = await history.bars(instrument, window_us, start, min(stop, oldest), limit - len(kept))
            except Away:
                if not kept:
                    raise away("InfluxDB did not answer, and memory has no such bar; ask again") from None
                mark = {"store": "away"}
        bodies = [*map(Raw, map(encode, stored)), *(Raw(bar.body) for bar in kept)]
        return answer(encode({"instrument": instrument, "window": window, "stored": len(stored), **mark, "bars": bodies}))

    async def portfolio(self) -> Response:
        self._check_ready()
        accounts = self._state.accounts
        return answer(self._snapshots.get("portfolio", lambda: encode(answers.Portfolios(self._portfolios(accounts)))))

    def _portfolios(self, accounts: dict) -> list:
        return [accounts[name].portfolio for name in sorted(accounts) if accounts[name].portfolio is not None]

    async def positions(self) -> Response:
        self._check_ready()

        def made() -> bytes:
            found = [
                answers.HeldPosition(of.account, of.at_us, *(getattr(held, name) for name in answers.OF_POSITION))
                for of in self._portfolios(self._state.accounts)
                for held in of.positions
            ]
            return encode(answers.Positions(found))

        return answer(self._snapshots.get("positions", made))

    async def trades(self, limit: Limit = 100) -> Response:
        self._check_ready()
        return answer(encode(answers.TradeList(list(self._state.each("trades"))[:limit])))

    async def refusals(self, limit: Limit = 100) -> Response:
        self._check_ready()
        return answer(encode(answers.RefusalList(list(self._state.each("refusals"))[:limit])))

    async def strategies(self) -> Response:
        self._check_ready()

        def made() -> bytes:
            accounts = self._state.accounts
            return encode(answers.Strategies([of.strategies[name] for of in accounts.values() for name in sorted(of.strategies)]))

        return answer(self._snapshots.get("strategies", made))

    async def start(self, request: Request, name: Annotated[str, Path(max_length=64)]) -> Response:
        return await self._command(request, name, "start")

    async def stop(self, request: Request, name: Annotated[str, Path(max_length=64)]) -> Response:
        return await self._command(request, name, "stop")

    async def _command(self, request: Request, name: str, action: Literal["start", "stop"]) -> Response:
        """Authorization: Bearer API_TOKEN. Answers 202 once the broker has the command."""
        token = self._settings.api_token.get_secret_value()
        if not token:
            raise Problem(403, "starting and stopping is closed: API_TOKEN is not set")
        given = request.headers.getlist("authorization")
        if len(given) != 1 or not same_token(token, given[0]):
            raise Problem(401, "expected Authorization: Bearer API_TOKEN", headers={"WWW-Authenticate": "Bearer"})
        self._check_ready()
        stats = self._state.strategy(name)
        if stats is None:
            raise Problem(404, "nothing was heard of this strategy", [Fault("path.name", "a name of /v1/strategies", name)])
        command = Command(uuid.uuid4().hex, action, time.time_ns() // 1000, name)
        await self._put(named(self._settings.topic_prefix, SIGNALS), stats.account, encode([command]), command.at_us)
        return answer(encode(answers.Asked(command.id, stats.account, name, action)), 202)


def components() -> dict:
    """Return the schemas of the answers, for the OpenAPI document."""
    models = [model for model in vars(answers).values() if isinstance(model, type) and issubclass(model, msgspec.Struct)]
    own = [model for model in models if model is not msgspec.Struct]
    return plain(msgspec.json.schema_components([*own, Book, ProblemDocument], ref_template="#/components/schemas/{name}")[1])


def schema_of(model: type) -> dict:
    """Return the schema of one struct, by itself."""
    _, found = msgspec.json.schema_components([model])
    return found[model.__name__]


def plain(schema: Any) -> Any:
    """Return a schema without prefixItems, over which tools trip: a level of a book is two numbers."""
    if isinstance(schema, list):
        return [plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: plain(one) for name, one in schema.items() if name != "prefixItems"}
    return found | {"items": {"type": "number", "minimum": 0}} if "prefixItems" in schema else found
