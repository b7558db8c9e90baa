"""Errors as problem documents (RFC 9457): `application/problem+json` with title, status, detail, and what was found where."""

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from msgspec import Struct
from starlette.exceptions import HTTPException

from runtime import log as logs
from schemas.codec import encode, shown

log = logs.get()
MEDIA_TYPE = "application/problem+json"


class Fault(Struct):
    """One thing that is wrong with a request."""

    path: str  # in the body as $.price, elsewhere as query.limit
    expected: str
    found: str


class ProblemDocument(Struct, omit_defaults=True):
    """Why a request was not done."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    errors: list[Fault] = []


class Problem(Exception):
    """What a handler raises for a request that it cannot do."""

    def __init__(self, status: int, detail: str, errors: list[Fault] | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors or [], headers or {}

    def body(self) -> bytes:
        return encode(ProblemDocument(HTTPStatus(self.status).phrase, self.status, self.detail, errors=self.errors))

    def response(self) -> Response:
        return Response(self.body(), self.status, self.headers, MEDIA_TYPE)


def away(detail: str, retry_seconds: int = 1) -> Problem:
    """Return the problem of something that will be there again."""
    return Problem(503, detail, headers={"Retry-After": str(retry_seconds)})


def install(app: FastAPI) -> None:
    """Let every error of the application be a problem document."""

    @app.exception_handler(Problem)
    async def known(_request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def of_framework(_request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if headers.get("Allow") == "GET":
            headers["Allow"] = "GET, HEAD"  # which is a GET to the routes
        return Problem(error.status_code, str(error.detail), headers=headers).response()

    @app.exception_handler(RequestValidationError)
    async def unreadable(_request: Request, error: RequestValidationError) -> Response:
        faults = [Fault(".".join(map(str, one["loc"])), one["msg"], shown(one.get("input"))) for one in error.errors()]
        return Problem(422, "the request was not understood", faults).response()

    @app.exception_handler(Exception)
    async def own_bug(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, error=f"{type(error).__name__}: {error}")
        return Problem(500, "the gateway failed; its log says more").response()
