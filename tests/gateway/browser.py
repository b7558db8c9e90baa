"""Chromium on a page of the gateway. What the page says to its console and whom it asks is kept, and judged when it is closed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route, async_playwright

from tests.gateway.stack import PATIENCE_SECONDS

FLAGS = (
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # beside the page too nothing leaves this machine
)
HERE = "127.0.0.1"
OTHER_INTERFACE = "ERR_NETWORK_CHANGED"  # a container came or went on this machine, and Chromium dropped its connections
LOADS = 5  # of an address until no interface changed meanwhile
WIDE, MIDDLE, PHONE = (1600, 1000), (1000, 900), (390, 844)


@asynccontextmanager
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    """Offer a headless browser with an empty profile of its own."""
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        try:
            yield running
        finally:
            await running.close()


class Tab:
    """A page, with the errors and warnings of its console and the addresses elsewhere that it asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.elsewhere: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", lambda socket: self._asked(socket.url))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def _asked(self, url: str) -> None:
        if not here(url):
            self.elsewhere.append(url)

    async def text(self, selector: str) -> str:
        return await self.page.locator(selector).inner_text()

    async def sees(self, selector: str, text: str) -> None:
        """Wait until an element's text holds another."""
        await self.page.locator(selector).filter(has_text=text).wait_for()

    async def wide(self) -> bool:
        """Return whether there is something to scroll to at the right."""
        return await self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def here(url: str) -> bool:
    """Return whether an address is this machine's, or none at all."""
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname == HERE


@asynccontextmanager
async def opened(
    browser: Browser, url: str, size: tuple[int, int] = WIDE, colours: str = "dark", script: str = "", may_say: tuple[str, ...] = ()
) -> AsyncIterator[Tab]:
    """Open an address. At the end no error or warning stands on its console, and nobody elsewhere was asked.

    colours: dark or light, as the system asks for; script: runs before those of the page; may_say: parts of errors that a test provokes.
    """
    width, height = size
    context = await browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours)
    context.set_default_timeout(PATIENCE_SECONDS * 1_000)
    try:
        await _closed_to_others(context)
        page = await context.new_page()
        if script:
            await page.add_init_script(script)
        tab = Tab(page)
        for _ in range(LOADS):
            tab.said.clear()
            await page.goto(url)
            if not any(OTHER_INTERFACE in text for text in tab.said):
                break
        yield tab
    finally:
        await context.close()
    assert not tab.elsewhere, f"it asked others: {tab.elsewhere}"
    said = [text for text in tab.said if not any(part in text for part in (*may_say, OTHER_INTERFACE))]
    assert not said, f"its console has: {said}"


async def _closed_to_others(context: BrowserContext) -> None:
    async def pass_or_not(route: Route, request: Request) -> None:
        await (route.continue_() if here(request.url) else route.abort())

    await context.route("**/*", pass_or_not)


async def painted(tab: Tab, colour: str) -> list[int]:
    """Return at which pixels from the left a colour of style.css stands in the chart's canvases, unmixed, sorted."""
    return await tab.page.evaluate(PAINTED, colour)


PAINTED = """
(name) => {
  const probe = document.body.appendChild(document.createElement("span"));
  probe.style.color = `var(--${name})`;
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number);
  probe.remove();
  const found = new Set();
  const left = document.getElementById("plot").getBoundingClientRect().left;
  for (const canvas of document.querySelectorAll("#plot canvas")) {
    if (!canvas.width || !canvas.height) continue;
    const from = canvas.getBoundingClientRect().left - left;
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data, width } = copy.getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length; at += 4) {
      const same = data[at] === red && data[at + 1] === green && data[at + 2] === blue && data[at + 3] === 255;
      if (same) found.add(Math.round(from + (at / 4) % width));
    }
  }
  return [...found].sort((one, other) => one - other);
}
"""


def contrast(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """Return the contrast of two colours, 1 to 21. Each: red, green, blue, 0 to 255. Source: WCAG 2.2, relative luminance."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: tuple[float, float, float]) -> float:
    parts = [value / 255 for value in colour]
    red, green, blue = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


COLOURS = """
(names) => {
  const probe = document.body.appendChild(document.createElement("span"));
  const found = names.map((name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number).slice(0, 3);
  });
  probe.remove();
  return found;
}
"""


async def colours(tab: Tab, *names: str) -> dict[str, tuple[float, float, float]]:
    """Return colours of style.css as the page shows them now."""
    return dict(zip(names, map(tuple, await tab.page.evaluate(COLOURS, list(names))), strict=True))
