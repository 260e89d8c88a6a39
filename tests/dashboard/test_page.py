"""The page in a real browser, over real servers: what an operator sees, and what nobody can do to them."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ServeProcess
from helpers import wait_until

from remote_gym import RemoteVectorEnv, SessionLost

HERE = Path(__file__).parent
ServeFactory = Callable[..., ServeProcess]
Opened = tuple[ServeProcess, str]


@pytest.fixture
def served(serve_process: ServeFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Opened]:
    """Serve a function of `shown.py` with a dashboard; gives the server and the link."""
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{':'.join(sys.path)}")

    def start(entrypoint: str = "shown:counter", *flags: str) -> Opened:
        process = serve_process(
            entrypoint, "--num-workers", "1", "--frames", "--dashboard-port", "0", "--config", "/dev/null", *flags
        )
        found = wait_until(lambda: re.search(r"(http://\S+\?token=\S+)", process.log), what="the link")
        return process, found[1]

    return start


def text(page: Any, selector: str) -> str:
    return str(page.locator(selector).inner_text())


def seen(page: Any, script: str, seconds: float = 30.0) -> Any:
    """Return what a script gives in the page, once that is true."""
    return page.wait_for_function(script, timeout=1_000 * seconds).json_value()


COLOUR = """() => {
  const canvas = document.querySelector('.tile.seen canvas');
  if (!canvas) return null;
  const [red, green] = canvas.getContext('2d').getImageData(3, 3, 1, 1).data;
  return Math.round(red / 20) * 10 + Math.round(green / 20);
}"""
"""How many steps the first picture shows."""


def test_figures_move(page: Any, served: Callable[..., Opened]) -> None:
    process, link = served()
    page.goto(link)
    seen(page, "() => document.querySelector('#state').dataset.state === 'live'")
    assert page.url.endswith("/")  # the token is not in the address any more
    with RemoteVectorEnv(process.address, num_envs=3) as envs:
        envs.reset()
        seen(page, "() => document.querySelectorAll('#sessions-table tbody tr').length === 1")
        before = ""
        for _ in range(3):  # the figure, and then others
            deadline = time.monotonic() + 20.0
            while (now := text(page, "[data-figure=rate]")) in (before, "–", "0"):
                assert time.monotonic() < deadline, f"the figure stays at {now!r}"
                envs.step([0, 0, 0])
                page.wait_for_timeout(20)
            before = now
        row = text(page, "#sessions-table tbody tr")
        assert "anonymous" in row
        assert "attached" in row
        assert page.locator("#sessions-table tbody .spark .line").first.get_attribute("d")
    seen(page, "() => document.querySelectorAll('#sessions-table tbody tr').length === 0")


def test_a_picture_shows_what_was_just_stepped_to(page: Any, served: Callable[..., Opened]) -> None:
    process, link = served()
    page.goto(link)
    with RemoteVectorEnv(process.address, num_envs=1) as envs:
        envs.reset()
        for steps in (0, 1, 37):
            while steps and int(envs.step([0])[0][0, 0]) < steps:
                pass
            seen(page, f"() => ({COLOUR})() === {steps}")
            assert text(page, ".caption").endswith(f"{steps:.2f} in {steps}" if 0 < steps < 10 else f"in {steps}")
        page.locator(".tile").focus()
        page.keyboard.press("Enter")
        seen(page, "() => document.querySelector('#large-length').textContent === '37'")
        envs.step([0])
        seen(page, "() => document.querySelector('#large-length').textContent === '38'")
        assert text(page, "#large-return") == "38.0"
        page.keyboard.press("Escape")
        assert not page.locator("#large").is_visible()


def test_a_killed_worker_is_told_of_within_two_seconds(page: Any, served: Callable[..., Opened]) -> None:
    process, link = served("shown:hostile")
    page.goto(link)
    with RemoteVectorEnv(process.address, num_envs=2) as envs:
        envs.reset()
        worker = int(
            seen(page, "() => document.querySelector('#workers-table tbody [data-label=Process]')?.textContent")
        )
        assert psutil.Process(worker).parent() == psutil.Process(process.process.pid)
        began = time.monotonic()
        psutil.Process(worker).send_signal(signal.SIGKILL)
        seen(page, "() => document.querySelector('#losses-list li')", 10.0)
        assert time.monotonic() - began < 2.0
        assert re.search(r"signal 9|SIGKILL", text(page, "#losses-list b"))
        assert str(worker) in text(page, "#losses-list")
        seen(page, "() => document.querySelector('[data-figure=restarts]').textContent === '1'")
        page.locator("#losses-list summary").click()
        assert "onerror" in text(page, "#losses-list pre")  # its last lines, as text
        unharmed(page)


def unharmed(page: Any) -> None:
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert page.evaluate("document.querySelectorAll('[onerror],[onload],[style*=url]').length") == 0


def test_what_an_environment_says_is_text(page: Any, served: Callable[..., Opened]) -> None:
    process, link = served("shown:hostile")
    page.goto(link)
    with RemoteVectorEnv(process.address, num_envs=1) as envs:
        envs.reset()
        seen(page, "() => document.querySelector('.tile .why')?.textContent.includes('onerror')")
        envs.step([0])
        unharmed(page)
        assert "\u202e" not in page.content()
        assert "\x1b" not in page.content()


def test_the_policy_holds_whatever_a_script_in_the_page_would_do(page: Any, served: Callable[..., Opened]) -> None:
    _, link = served()
    page.goto(link)
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        address = f"http://127.0.0.1:{other.getsockname()[1]}/"
        assert page.evaluate(f"fetch('{address}').then(() => 'sent', () => 'refused')") == "refused"
        with pytest.raises(BlockingIOError):
            other.accept()
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    page.evaluate("document.head.append(Object.assign(document.createElement('style'), {textContent: '*{color:red}'}))")
    assert page.evaluate("getComputedStyle(document.body).color") != "rgb(255, 0, 0)"


def test_no_request_leaves_the_pages_own_origin(page: Any, served: Callable[..., Opened]) -> None:
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    process, link = served()
    page.goto(link)
    with RemoteVectorEnv(process.address, num_envs=2) as envs:
        envs.reset()
        seen(page, "() => document.querySelectorAll('.tile.seen').length === 2")
        page.locator(".tile").first.click()
        page.keyboard.press("Escape")
        page.locator("#theme").click()
        page.locator("#sessions-find").fill("nobody")
        seen(page, "() => document.querySelectorAll('#sessions-table tbody tr').length === 0")
    assert len(asked) > 8
    origin = link.partition("?")[0]
    assert [url for url in asked if not url.startswith(origin)] == []


def test_a_wrong_token_opens_nothing_and_the_right_one_may_be_typed(page: Any, served: Callable[..., Opened]) -> None:
    _, link = served()
    base, _, token = link.partition("?token=")
    assert page.goto(f"{base}?token=wrong").status == 403
    assert page.goto(base).status == 401
    page.get_by_label("Token").fill("wrong as well")
    page.get_by_role("button", name="Open").click()
    assert "opens nothing here" in text(page, "body")
    page.goto(base)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Open").click()
    seen(page, "() => document.querySelector('#state')?.dataset.state === 'live'")
    assert page.url == base  # the token is not in the address any more, which has led here with it
    assert page.evaluate("sessionStorage.getItem('token')") == token
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""


def test_another_sites_page_gets_nothing(page: Any, served: Callable[..., Opened]) -> None:
    """Not by its own name for this machine, not by a frame, not by a request that has the cookie sent along."""
    _, link = served("shown:counter", "--dashboard-admin")
    page.goto(link)
    base = link.partition("?")[0]
    port = base.rstrip("/").rpartition(":")[2]
    assert page.goto(f"http://rebound.localhost:{port}/").status == 421
    # another port of the same host, which browsers send our cookie from
    page.context.route(
        "http://127.0.0.1:1/", lambda route: route.fulfill(body="<body></body>", content_type="text/html")
    )
    page.goto("http://127.0.0.1:1/")
    asking = "fetch('%s', %s).then(r => r.status, () => 'refused')"
    assert page.evaluate(asking % (f"{base}views", "{credentials: 'include'}")) == "refused"
    assert page.evaluate(asking % (f"{base}drain", "{method: 'POST', credentials: 'include', body: '{}'}")) == "refused"
    framed = """src => new Promise((done) => {
      const frame = document.createElement('iframe');
      frame.onload = () => done(frame.contentDocument?.body?.textContent ?? 'closed');
      frame.src = src;
      document.body.append(frame);
    })"""
    assert "Sessions" not in str(page.evaluate(framed, base))


@pytest.mark.parametrize("admin", [False, True])
def test_a_session_is_ended_where_that_is_allowed(page: Any, served: Callable[..., Opened], admin: bool) -> None:
    process, link = served("shown:counter", *(["--dashboard-admin"] if admin else []))
    page.goto(link)
    with RemoteVectorEnv(process.address, num_envs=1) as envs:
        envs.reset()
        seen(page, "() => document.querySelectorAll('#sessions-table tbody tr').length === 1")
        ends = page.get_by_role("button", name=re.compile("End session"))
        assert ends.count() == (1 if admin else 0)
        if admin:
            ends.click()
            page.get_by_role("button", name="Leave it").click()
            envs.step([0])
            other = page.context.new_page()  # which has the cookie alone, as whoever else may have got it
            other.goto(link.partition("?")[0])
            other.get_by_role("button", name=re.compile("End session")).click()
            other.get_by_role("button", name="End it").click()
            seen(other, "() => document.querySelector('#said').textContent.includes('without the token')")
            other.close()
            envs.step([0])
            page.reload()  # the tab keeps the token
            ends.click()
            page.get_by_role("button", name="End it").click()
            seen(page, "() => document.querySelectorAll('#sessions-table tbody tr').length === 0")
            with pytest.raises(SessionLost, match="owner"):
                envs.step([0])


def test_a_server_is_drained_where_that_is_allowed(page: Any, served: Callable[..., Opened]) -> None:
    process, link = served("shown:counter", "--dashboard-admin")
    page.goto(link)
    page.get_by_role("button", name=re.compile("Drain")).click()
    page.locator("#sure-yes").click()
    assert process.process.wait(30.0) == 0
    seen(page, "() => document.querySelector('#state').dataset.state === 'reconnecting'")


def test_the_page_goes_on_when_its_process_has_died(page: Any, served: Callable[..., Opened]) -> None:
    process, link = served()
    page.goto(link)
    seen(page, "() => document.querySelector('#state').dataset.state === 'live'")
    for child in psutil.Process(process.process.pid).children():
        if any("remote_gym.dashboard" in word for word in child.cmdline()):
            child.kill()
    seen(page, "() => document.querySelector('#state').dataset.state !== 'live'")
    seen(page, "() => document.querySelector('#state').dataset.state === 'live'", 60.0)


def test_several_servers_are_one_page(page: Any, serve_process: ServeFactory, tmp_path: Path) -> None:
    one = serve_process("CartPole-v1", "--num-workers", "1", "--config", "/dev/null")
    other = serve_process("CartPole-v1", "--num-workers", "1", "--config", "/dev/null")
    command = [sys.executable, "-m", "remote_gym", "dashboard", one.address, other.address, "127.0.0.1:1"]
    shown = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert shown.stdout is not None
        page.goto(shown.stdout.readline().strip())
        seen(page, "() => document.querySelector('#servers-count').textContent === '2 of 3 reached'")
        with RemoteVectorEnv([one.address, other.address], num_envs=4) as envs:
            envs.reset()
            seen(page, "() => document.querySelectorAll('#sessions-table tbody tr').length === 2")
            assert {one.address, other.address} <= set(page.locator("#sessions-table tbody th small").all_inner_texts())
            assert "makes no pictures" in text(page, "#frames-why")
        other.process.kill()
        seen(page, "() => document.querySelector('#servers-count').textContent === '1 of 3 reached'")
    finally:
        shown.terminate()
        shown.wait(20.0)
        assert shown.stdout is not None
        shown.stdout.close()


PLAYED = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from staged import Stage, snapshot
from remote_gym.dashboard import main
from remote_gym.dashboard.settings import Settings, Watched
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
stage = Stage(lambda tick: snapshot(tick, 1_000), 1.0)
main.run(Settings((Watched("a:1", "a:1"),), "secret"), [listening], main._until_input_ends, stage.ask)
"""


@pytest.fixture
def crowded() -> Iterator[str]:
    """A dashboard of a thousand sessions, which are played; gives the link."""
    command = [sys.executable, "-c", PLAYED, str(HERE.parent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}/?token=secret"
    process.stdin.close()
    process.wait(20.0)
    process.stdout.close()


def busy(page: Any, seconds: float) -> float:
    """Return the share of its time that the page's main thread computes: by its own clock, whoever else does, too."""
    asking = page.context.new_cdp_session(page)
    asking.send("Performance.enable", {"timeDomain": "threadTicks"})

    def computed() -> float:
        told = asking.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in told if one["name"] == "TaskDuration"))

    before = computed()
    page.wait_for_timeout(1_000 * seconds)
    return (computed() - before) / seconds


def test_a_thousand_sessions_are_no_stall(page: Any, crowded: str) -> None:
    page.goto(crowded)
    rows = "document.querySelectorAll('#sessions-table tbody tr').length"
    seen(page, f"() => {rows} === 50", 60.0)
    assert text(page, "#sessions-count") == "1,000 sessions"
    assert text(page, "#sessions-more") == "950 more, show some"
    page.locator("#sessions-more").click()
    seen(page, f"() => {rows} === 100")
    assert busy(page, 5.0) < 0.3
    page.locator("#sessions-find").fill("user3")
    seen(page, "() => document.querySelector('#sessions-count').textContent === '143 of 1,000 sessions'")
    assert page.evaluate(rows) == 100
    assert text(page, "#sessions-more") == "43 more, show some"


@pytest.mark.parametrize("width", [400, 768, 1280])
def test_nothing_is_wider_than_the_screen(page: Any, crowded: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 860})
    page.goto(crowded)
    seen(page, "() => document.querySelectorAll('#sessions-table tbody tr').length === 50")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_light_and_dark(page: Any, crowded: str) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(crowded)
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.locator("#theme").click()
    assert text(page, "#theme") == "Theme: light"
    light = page.evaluate(paper)
    assert dark != light
    page.reload()
    assert page.evaluate(paper) == light
    page.locator("#theme").click()
    assert page.evaluate(paper) == dark


def test_who_does_not_see_is_told_as_well(page: Any, crowded: str) -> None:
    page.goto(crowded)
    seen(page, "() => document.querySelectorAll('#sessions-table tbody tr').length === 50")
    assert page.get_by_role("status").inner_text() == "live"
    for name in ("Now", "Servers", "Environments", "Sessions", "Workers", "Lost workers"):
        assert page.get_by_role("region", name=name, exact=True).count() == 1
    assert page.get_by_role("rowheader").count() == 53
    unnamed = """() => [...document.querySelectorAll('button, input, select, canvas')]
      .filter((one) => one.checkVisibility())
      .filter((one) => !(one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim()))
      .map((one) => one.outerHTML)"""
    assert page.evaluate(unnamed) == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to sessions"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "sessions"
