"""nginx as a plain process, by the project's own entry.sh and configuration; and what stands behind it, which tells what it was asked."""

import os
import platform
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import WSMsgType, web

from deploy.native import cache
from deploy.native.errors import NativeError
from deploy.native.ports import HOST, free_port
from deploy.native.process import Process

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "deploy" / "compose" / "nginx"
START_LIMIT_S = 30.0
PASSWORD = "of-the-test-9f2c"


def program() -> Path:
    """Return the folder of nginx: the machine's, else out of Debian's package, fetched once. Where there is none the test fails."""
    if found := shutil.which("nginx"):
        return Path(found).parent
    try:
        release = platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")
        return cache.fill(f"nginx-debian-{release}", _download) / "usr" / "sbin"
    except (NativeError, OSError) as error:
        pytest.fail(f"nginx: {error}", pytrace=False)


def _download(target: Path) -> None:
    cache.run("nginx", ["apt-get", "download", "nginx"], limit_s=120, cwd=target)
    for file in target.glob("*.deb"):
        cache.run("nginx", ["dpkg-deb", "-x", file, target], limit_s=60)
        file.unlink()


class Door:
    """A running nginx. `environment` is what its container has."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.http, self.https = folder, free_port(), free_port()
        self.url = f"https://{HOST}:{self.https}"
        self._environment = {
            "PATH": f"{program()}:{os.environ['PATH']}",
            "NGINX_SOURCE": str(SOURCE),
            "NGINX_TARGET": str(folder / "nginx"),
            "NGINX_SSL": str(folder / "ssl"),
            "NGINX_HTTP": f"{HOST}:{self.http}",
            "NGINX_HTTPS": f"{HOST}:{self.https}",
            "PUBLIC_HTTPS_PORT": str(self.https),
            "NGINX_DIRECTIVES": "user root;" if os.geteuid() == 0 else "",
            "TLS_SELF_SIGNED": "true",
            "METRICS_PASSWORD": PASSWORD,
            **environment,
        }
        self._process = Process("nginx", folder / "nginx.log")

    def __enter__(self) -> "Door":
        (self.folder / "ssl").mkdir(exist_ok=True)
        self._process.start(["sh", SOURCE / "entry.sh"], self._answers, START_LIMIT_S, env=self._environment)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/grafana", verify=False, trust_env=False, timeout=2).status_code == 308
        except httpx.TransportError:
            return False

    @property
    def trust(self) -> ssl.SSLContext:
        """What believes the certificate that it made, and no other."""
        return ssl.create_default_context(cafile=self.folder / "nginx" / "made" / "cert.pem")

    def client(self, **given) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, verify=self.trust, trust_env=False, timeout=10, **given)


@asynccontextmanager
async def behind(name: str) -> AsyncIterator[str]:
    """Serve what tells what it was asked, as JSON or by WebSocket; yields its host:port."""

    async def told(request: web.Request) -> web.StreamResponse:
        asked = {"name": name, "path": request.path_qs, "headers": dict(request.headers), "bytes": len(await request.read())}
        if request.headers.get("Upgrade", "").lower() == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_json(asked)
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await socket.send_str(message.data)
            return socket
        return web.json_response(asked, headers={"X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "nosniff"})

    application = web.Application(client_max_size=1 << 24)
    application.router.add_route("*", "/{path:.*}", told)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield f"{HOST}:{port}"
    finally:
        await runner.cleanup()
