"""The page's files: what is asked for where no route is."""

from pathlib import Path

from fastapi import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

PAGE = Path(__file__).parent / "page"


class Files(StaticFiles):
    """Comes after all routes, so that a route whose method is another still is the one that answers, with 405."""

    def __init__(self, none: ASGIApp) -> None:
        """none: what answers a handshake for which there is no route."""
        super().__init__(directory=PAGE, html=True)
        self._none = none

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (super().__call__(scope, receive, send) if scope["type"] == "http" else self._none(scope, receive, send))

    async def get_response(self, path: str, scope: Scope) -> Response:
        found = await super().get_response(path, {**scope, "method": "GET"})  # raises 404
        scope["endpoint"] = self  # so that it is counted as a file
        if scope["method"] != "GET":
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        return found
