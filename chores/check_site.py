"""Check the built documentation: ``tox run -e docs`` does, after building it. Give the folder of its pages.

No link within it is dead, headings included. Where there is a Chromium or Chrome, each page is opened in it, as wide as
a telephone and as a desk's screen, light and dark: nothing but a table may scroll sideways, and every picture shows.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WIDTHS = (400, 1280)  # CSS pixels
THEMES = ("light", "dark")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_SECONDS = 300.0
"""How long it may take over all pages; it takes some ten seconds."""


class _Page(HTMLParser):
    """What a page names, and what can be named in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        self.targets |= {value for name in ("href", "src") if (value := values.get(name))}


def dead_links(site: Path) -> list[str]:
    """Return each link of a page that leads to no file, or to nothing within it, as ``PAGE: TARGET``."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    dead = []
    for path, page in pages.items():
        for target in sorted(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not there.is_file() or (anchor and there in pages and anchor not in pages[there].anchors):
                dead.append(f"{path.relative_to(site)}: {target}")
    return dead


# Opens every page, one after the other, in a frame of each width, and sends what it finds to the server below.
_LOOK = """<!doctype html><html><body style="margin:0"><script>
const wrong = [];
async function look(page, width, theme) {
    localStorage.setItem("theme", theme);
    const frame = document.createElement("iframe");
    frame.style = `width:${width}px;height:900px;border:0`;
    const loaded = new Promise(done => frame.addEventListener("load", done));
    frame.src = page;
    document.body.append(frame);
    await loaded;
    const shown = frame.contentDocument, view = frame.contentWindow;
    const say = what => wrong.push(`${page} at ${width}, ${theme}: ${what}`);
    if (!shown.querySelector("article")) say("is empty");
    else if (shown.body.dataset.theme != theme) say("is not shown in this theme");
    for (const picture of shown.images) {
        picture.loading = "eager";
        await picture.decode().catch(() => say(`${picture.src} does not show`));
    }
    if (shown.scrollingElement.scrollWidth > width) say(`is ${shown.scrollingElement.scrollWidth} wide`);
    for (const element of shown.querySelectorAll("article *")) {
        const scrolls = ["auto", "scroll"].includes(view.getComputedStyle(element).overflowX);
        const wide = element.scrollWidth > element.clientWidth + 1;
        if (scrolls && wide && !element.querySelector("table") && !element.closest("table"))
            say(`scrolls sideways: ${element.textContent.trim().slice(0, 60)}`);
    }
    frame.remove();
}
(async () => {
    for (const page of PAGES) for (const width of WIDTHS) for (const theme of THEMES)
        await look(page, width, theme).catch(error => wrong.push(`${page} at ${width}, ${theme}: ${error}`));
    await fetch("/found", {method: "POST", body: JSON.stringify(wrong)});
})();
</script></body></html>"""


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Gives out the site, and takes what the browser found."""

    def __init__(self, look: str, found: list[str], done: threading.Event, *arguments: object, **options: str) -> None:
        self._look, self._found, self._done = look, found, done
        super().__init__(*arguments, **options)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path == "/look":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(self._look.encode())
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self._found += json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self._done.set()

    def log_message(self, *_: object) -> None:
        pass


def misshapen(site: Path, browser: str) -> list[str]:
    """Return what is wrong with pages as `browser` shows them, as ``PAGE at WIDTH, THEME: WHAT``.

    Raises:
        SystemExit: The browser did not get through them.
    """
    pages = [
        f"/{path.relative_to(site).as_posix()}" for path in sorted(site.rglob("*.html")) if "_static" not in path.parts
    ]
    look = _LOOK
    for name, value in (("PAGES", pages), ("WIDTHS", WIDTHS), ("THEMES", THEMES)):
        look = look.replace(f"of {name})", f"of {json.dumps(value)})")
    found: list[str] = []
    done = threading.Event()
    handler = functools.partial(_Handler, look, found, done, directory=str(site))
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        tempfile.TemporaryDirectory(prefix="check-site-", ignore_cleanup_errors=True) as profile,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1400,1000",
            f"--user-data-dir={profile}",
        ]
        if not os.getuid():
            command.append("--no-sandbox")  # it has none for root; it opens nothing but these pages
        address = f"http://127.0.0.1:{server.server_address[1]}/look"
        process = subprocess.Popen([*command, "--remote-debugging-port=0", address], stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + BROWSER_SECONDS
            while not done.wait(0.2):
                if process.poll() is not None:
                    raise SystemExit(f"{browser} ended with {process.returncode} before it had shown all pages")
                if time.monotonic() > deadline:
                    raise SystemExit(f"{browser} has not got through the pages within {BROWSER_SECONDS:.0f} s")
        finally:
            process.terminate()
            process.wait()
            server.shutdown()
    return found


def main(site: Path) -> int:
    """Say what is wrong; return 1 if anything is."""
    wrong = [f"dead link: {link}" for link in dead_links(site)]
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser:
        wrong += misshapen(site, browser)
    else:
        print(f"not looked at: none of {', '.join(BROWSERS)} is here")
    print(
        "\n".join(wrong)
        or f"{len(list(site.rglob('*.html')))} pages: no dead link{', nothing too wide' * bool(browser)}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
