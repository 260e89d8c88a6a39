"""What does it cost that somebody looks? 64 CartPoles, their dashboard closed, open, and open with 16 pictures at 2 Hz.

    python benchmarks/dashboard.py
    python benchmarks/dashboard.py --browser /usr/bin/chromium      a real one has the pages open

Each way has a server with two workers and a client in processes of their own, over mutual TLS on loopback; the first
two are the same, without a dashboard: an A/A pair, whose interval is what this machine cannot tell apart. All are
started first, then take turns in a new random order each round. A page is open as long as its server runs, and is read
by this process, or by a browser; neither is counted. What is compared is the median of each round's steps per second;
the interval is that of the ratio of the medians, by resampling rounds (percentile bootstrap, 95 %). CPU time is what
the kernel counts (Linux), of all processes of a way, per environment step.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import quiet
import report
import serving
from compare import cpu_seconds, interval
from slices import Contender, Slice
from watch import Watch, descendants

NUM_ENVS, NUM_WORKERS = 64, 2
TILES, PERIOD_SECONDS = 16, 0.5
WARM_UP_SECONDS = 1.0
OPENING_SECONDS = 30.0
"""How long a page may take to show its first picture: each environment's first one starts its renderer."""

WAYS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "without": ({}, False, False),
    "without, again": ({}, False, False),
    "closed": ({"dashboard_port": 0, "frames": True}, False, False),
    "open": ({"dashboard_port": 0, "frames": True}, True, False),
    "open, 16 pictures": ({"dashboard_port": 0, "frames": True}, True, True),
}
"""By name: the server's options, whether a page is open, and whether that shows pictures."""

ROLES = ("client", "server", "workers", "dashboard")

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


class Page:
    """A page that is open, read by this process in a browser's stead.

    Attributes:
        pictures: How many have come.
    """

    def __init__(self, link: str) -> None:
        """Enter with the link's token, and look."""
        split = urlsplit(link)
        self._place = (split.hostname or "", split.port or 0)
        answer = self._get(f"/?{split.query}", "")
        self._cookie = (answer.headers["set-cookie"] or "").partition(";")[0]
        answer.read()
        self._first: dict[str, Any] = {}
        self._seen = threading.Event()
        self.pictures = 0
        self._read("/views", self._view)

    def _get(self, path: str, cookie: str) -> http.client.HTTPResponse:
        asking = http.client.HTTPConnection(*self._place)
        asking.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        return asking.getresponse()

    def _read(self, path: str, each: Any) -> None:
        answer = self._get(path, self._cookie)

        def read() -> None:
            for line in answer:
                if line.startswith(b"data:"):
                    each(line[5:])

        threading.Thread(target=read, daemon=True).start()

    def _view(self, line: bytes) -> None:
        if not self._seen.is_set() and b'"key":"0.' in line and (rows := json.loads(line)["sessions"]["rows"]):
            self._first = rows[0]
            self._seen.set()

    def show(self, tiles: int) -> None:
        """Ask for pictures of the first environments as well; returns when some have come."""
        if not self._seen.wait(OPENING_SECONDS):
            raise RuntimeError("the page shows no session")
        come = threading.Event()

        def picture(line: bytes) -> None:
            self.pictures += b'"image"' in line
            if self.pictures:
                come.set()

        query = "&".join(f"tile={self._first['key']}.{env}" for env in range(tiles))
        self._read(f"/tiles?width=240&period={PERIOD_SECONDS}&{query}", picture)
        if not come.wait(OPENING_SECONDS):
            raise RuntimeError("the page shows no picture")


@dataclass
class Way:
    """A server and a client, running, maybe looked at; and what each round gave."""

    client: Slice
    processes: dict[str, list[int]]
    page: Page | None = None
    rates: list[float] = field(default_factory=list)  # environment steps per second
    cpu: dict[str, list[float]] = field(default_factory=lambda: {role: [] for role in ROLES})  # microseconds per step
    pictures: list[float] = field(default_factory=list)  # per second

    def run(self, seconds: float) -> None:
        """Run a round."""
        before = {role: cpu_seconds(pids) for role, pids in self.processes.items()}
        pictures = 0 if self.page is None else self.page.pictures
        answer = self.client.run(seconds)
        self.rates.append(answer["steps"] / answer["seconds"])
        for role, pids in self.processes.items():
            self.cpu[role].append((cpu_seconds(pids) - before[role]) * 1e6 / answer["steps"])
        if self.page is not None:
            self.pictures.append((self.page.pictures - pictures) / answer["seconds"])


def start(name: str, directory: Path, browser: str | None, stack: ExitStack) -> Way:
    """Start one way; it ends with `stack`."""
    options, is_open, has_pictures = WAYS[name]
    asked = {
        "certificates": [str(directory / one) for one in ("server.pem", "server-key.pem", "ca.pem")],
        "options": {"num_workers": NUM_WORKERS, **options},
    }
    command = [sys.executable, str(serving.HERE / "contenders" / "shown.py"), json.dumps(asked)]
    server, said = stack.enter_context(serving.started(command, "shown ready on "))
    address, link = said.split()
    config = {"addresses": [address], "credentials": serving.client_paths(directory), "num_envs": NUM_ENVS}
    client = Slice(Contender("remote:step", config))
    stack.callback(client.close)
    client.wait_until_ready()
    client.run(WARM_UP_SECONDS)
    page = None
    if is_open and browser is None:
        page = Page(link)
        if has_pictures:
            page.show(TILES)
    elif is_open and browser is not None:
        stack.enter_context(_browsing(browser, link))
    client.run(WARM_UP_SECONDS)
    children = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(server.pid)}
    dashboards = [pid for pid, line in children.items() if b"remote_gym.dashboard" in line]
    processes = {
        "client": [client.pid], "server": [server.pid], "dashboard": dashboards,
        "workers": [pid for pid in children if pid not in dashboards],
    }  # fmt: skip
    return Way(client, processes, page)


def _browsing(browser: str, link: str) -> ExitStack:
    """Have a browser show the page, with the pictures that it shows by itself."""
    stack = ExitStack()
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="remote_gym-browser-", ignore_cleanup_errors=True))
    quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        [browser, *FLAGS, f"--user-data-dir={folder}", "--remote-debugging-port=0", link], **quietly
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return stack


def measure(directory: Path, arguments: Any) -> dict[str, Any]:
    """Run all ways in turn; return the figures."""
    chance = random.Random(arguments.seed)
    with ExitStack() as stack:
        names = [name for name in WAYS if arguments.browser is None or name != "open"]
        running = {name: start(name, directory, arguments.browser, stack) for name in names}
        watch = Watch()
        for _ in range(arguments.repeats):
            for way in chance.sample(list(running.values()), len(running)):
                way.run(arguments.seconds)
        others = watch.others
    first = running["without"]
    return {"case": "cartpole", "num_envs": NUM_ENVS, "others_cores": others, "ways": {
        name: {
            "rate": statistics.median(way.rates),
            **dict(zip(("ratio", "low", "high"), interval(way.rates, first.rates, chance), strict=True)),
            "cpu_microseconds": {role: statistics.median(way.cpu[role]) for role in ROLES},
            "pictures_per_second": statistics.median(way.pictures) if way.pictures else 0.0,
            "rounds": way.rates,
        }
        for name, way in running.items()
    }}  # fmt: skip


def rows(result: dict[str, Any]) -> list[list[str]]:
    """Return the lines of the table."""
    return [
        [
            name,
            f"{one['rate']:,.0f}",
            f"{one['ratio']:.3f}",
            f"{one['low']:.3f} to {one['high']:.3f}",
            f"{sum(one['cpu_microseconds'].values()):.2f}",
            *(f"{one['cpu_microseconds'][role]:.2f}" for role in ROLES),
            f"{one['pictures_per_second']:.1f}",
        ]
        for name, one in result["ways"].items()
    ]


def main(command_line: Sequence[str] | None = None) -> None:
    """Measure and tell."""
    parser = report.parser(__doc__, "dashboard", seconds=2.0)
    parser.set_defaults(repeats=16)
    parser.add_argument("--browser", metavar="PATH", help="of a Chromium that has the page with pictures open")
    parser.add_argument("--seed", type=int, default=0, help="of the order and of resampling (default: %(default)s)")
    arguments = report.parse(parser, command_line)
    written = report.Report("dashboard", arguments, workers=NUM_WORKERS, seed=arguments.seed, browser=arguments.browser)
    lines = []
    with serving.certificates() as directory:
        keeper = quiet.Keeper(written, directory, arguments.quick)
        result = keeper.keep(partial(measure, directory, arguments))
        if result is not None:
            lines = rows(result)
    cpu = ["CPU us per step", *(f"of {role}" for role in ROLES)]
    print(report.table(["dashboard", "steps/s", "× without", "95 % interval", *cpu, "pictures/s"], lines))
    written.done()


if __name__ == "__main__":
    main()
