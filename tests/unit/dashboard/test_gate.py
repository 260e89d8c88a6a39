"""Who may look: a token, then a cookie; under our name and from our page alone; and the same headers on all answers."""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra dashboard is not installed")

from asking import HOST, OURS, asked
from starlette.responses import PlainTextResponse, Response

from remote_gym.dashboard import gate as module
from remote_gym.dashboard.gate import HEADERS, POLICY, Gate

TOKEN = "a-token-of-random-bits"


def made() -> Gate:
    return Gate(PlainTextResponse("inside"), TOKEN, ("localhost", "127.0.0.1", "::1"), Response("who?", 401))


def entered(gate: Gate, **headers: str) -> str:
    answer = asked(gate, f"/?token={TOKEN}", **headers)
    assert answer.status == 200
    return answer.cookie


def test_without_a_token_nothing_is_shown() -> None:
    for path in ("/", "/views", "/tiles", "/main.js", "/nothing", "/?token=", "/views?token=" + TOKEN):
        answer = asked(made(), path)
        assert answer.status in (401, 403), path
        assert answer.body != b"inside"
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("token", ["wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%00", "%F0%9F%A6%86"])
def test_a_wrong_token_is_refused(token: str) -> None:
    answer = asked(made(), f"/?token={token}")
    assert (answer.status, "set-cookie" in answer.headers) == (403, False)


def test_the_token_opens_and_a_cookie_stands_for_it() -> None:
    gate = made()
    answer = asked(gate, f"/?token={TOKEN}")
    assert (answer.status, answer.body) == (200, b"inside")
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert attributes == ["Path=/", "HttpOnly", "SameSite=Strict"]
    assert TOKEN not in cookie
    assert cookie.startswith("remote-gym-8000=")  # cookies tell hosts apart, not ports
    assert asked(gate, "/views", cookie=cookie).body == b"inside"
    assert asked(gate, "/", cookie=f"theme=dark; {cookie}").body == b"inside"


@pytest.mark.parametrize("cookie", ["remote-gym-8000=", "remote-gym-8000=wrong", "remote-gym-8000", "a=b", "\x7f=;=;,"])
def test_another_cookie_opens_nothing(cookie: str) -> None:
    assert asked(made(), "/", cookie=cookie).status == 401


@pytest.mark.parametrize("other", ['prefs={"dark":true}', "a", "=", "a b=c", '"', "x=\xe9", 'y="1;2"', "[]=@,"])
def test_what_other_programs_keep_locks_nobody_out(other: str) -> None:
    gate = made()
    cookie = entered(gate)
    for sent in (f"{other}; {cookie}", f"{cookie}; {other}", f"{other};{cookie};{other}"):
        assert asked(gate, "/", cookie=sent).body == b"inside"


def test_a_cookie_is_of_one_token() -> None:
    """A page that is open goes on after its process has died; another server's page does not open."""
    assert asked(made(), "/", cookie=entered(made())).status == 200
    other = Gate(PlainTextResponse("inside"), "another token", ("127.0.0.1",), Response("who?", 401))
    assert asked(other, "/", cookie=entered(made())).status == 401


def test_the_page_that_asks_takes_the_token_as_well() -> None:
    gate, headers = made(), {"content_type": "application/x-www-form-urlencoded", **OURS}
    answer = asked(gate, "/enter", "POST", f"token={TOKEN}".encode(), **headers)
    assert (answer.status, answer.headers["location"]) == (303, f"/#token={TOKEN}")  # as the link has it, for the page
    assert asked(gate, "/", cookie=answer.cookie).body == b"inside"
    again = asked(gate, "/enter", "POST", f"token={TOKEN}".encode(), cookie=answer.cookie, **headers)
    assert again.headers["location"] == f"/#token={TOKEN}"  # another tab had asked, too
    for body in (b"token=wrong", b"token=", b"", b"x" * 100_000, b"\xff\xfe", b"token=" + b"x" * 100_000):
        answer = asked(gate, "/enter", "POST", body, **headers)
        assert answer.status in (401, 403)
        assert "set-cookie" not in answer.headers


def test_tokens_and_cookies_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    class Counting:
        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            compared.append(other)
            return hmac.compare_digest(one, other)

    gate = made()
    monkeypatch.setattr(module, "hmac", Counting)
    asked(gate, "/?token=wrong")
    asked(gate, "/", cookie="remote-gym-8000=wrong")
    gate.knows("wrong")
    assert len(compared) == 3


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "",
        "localhost.evil",
        "a b",
        "[::1",
        "127.0.0.1,evil.example",
    ],
)
def test_an_address_that_is_not_ours_leads_nowhere(host: str) -> None:
    """DNS rebinding: a page of evil.example whose name has become 127.0.0.1 has our cookie's host, and not our name."""
    gate = made()
    cookie = entered(gate)
    for path in ("/", f"/?token={TOKEN}", "/views"):
        answer = asked(gate, path, host=host, cookie=cookie)
        assert (answer.status, answer.body) != (200, b"inside")
        assert answer.status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:1", "[::1]:8000"])
def test_any_port_leads_here_through_a_tunnel(host: str) -> None:
    gate = made()
    assert asked(gate, "/", host=host, cookie=entered(gate, host=host)).body == b"inside"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, 200),
        ({"origin": ""}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": f"http://{HOST}.evil.example"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
    ],
)
def test_only_our_page_changes_anything(changed: dict[str, str], status: int) -> None:
    gate = made()
    headers = {**OURS, "cookie": entered(gate), **changed}
    headers = {name.replace("-", "_"): value for name, value in headers.items()}
    if "sec_fetch_site" in changed:
        headers["sec_fetch_mode"] = "navigate"  # a form of another page
    assert asked(gate, "/end", "POST", b"{}", **{name: headers[name] for name in headers}).status == status


def test_other_pages_load_nothing_of_ours() -> None:
    """A page at another port of this host has our cookie sent along: the browser says who asks."""
    gate = made()
    cookie = entered(gate)
    for site in ("same-site", "cross-site"):
        assert asked(gate, "/views", cookie=cookie, sec_fetch_site=site, sec_fetch_mode="no-cors").status == 403
        assert asked(gate, "/", cookie=cookie, sec_fetch_site=site, sec_fetch_mode="navigate").status == 200  # a link
    assert asked(gate, "/views", cookie=cookie, origin="http://127.0.0.1:9999").status == 403


@pytest.mark.parametrize("path", ["/", f"/?token={TOKEN}", "/?token=wrong", "/style.css", "/nothing"])
@pytest.mark.parametrize("host", [HOST, "evil.example"])
def test_every_answer_has_the_headers(path: str, host: str) -> None:
    answer = asked(made(), path, host=host)
    for name, value in HEADERS:
        assert answer.headers[name.decode()] == value.decode()


def test_the_policy_is_strict() -> None:
    assert "default-src 'self'" in POLICY
    assert "unsafe" not in POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert "require-trusted-types-for 'script'" in POLICY
    assert dict(HEADERS)[b"cache-control"] == b"no-store"


def test_what_is_no_request_of_http_gets_nothing() -> None:
    async def send(message: Any) -> None:
        raise AssertionError(message)

    async def receive() -> Any:
        raise AssertionError

    asyncio.run(made()({"type": "websocket", "headers": []}, receive, send))


def test_the_cookie_is_not_the_token_and_leads_to_no_token() -> None:
    """Whoever serves another port of this host, and is visited, has the cookie, and asks with whatever headers."""
    gate = made()
    cookie = entered(gate)
    assert gate.knows(TOKEN)
    for shown in (None, "", cookie, cookie.partition("=")[2], TOKEN.upper()):
        assert not gate.knows(shown)
    for path, method in (("/", "GET"), ("/enter", "GET"), ("/enter", "POST"), ("/?token=", "GET"), ("/views", "GET")):
        answer = asked(gate, path, method, cookie=cookie, **OURS)
        assert TOKEN not in f"{answer.headers}{answer.body!r}"
