"""Dashboard process: who may look. Every request passes here first, and every answer leaves with the same headers.

What is held against what:

- A token of 256 random bits, compared in constant time, opens the page; a cookie that no script reads and that no other
  site's pages send (`HttpOnly`, `SameSite=Strict`) stands for it from then on.
- The name in the address must be one of ours: whose name leads to this machine (DNS rebinding) reaches nothing.
- Whatever is sent by a page must be sent by our page (`Origin`, `Sec-Fetch-Site`): cookies tell hosts apart, not ports.
- For the same reason other programs of this host may get the cookie, which they can look with: what changes something
  takes the token itself. The page keeps that for its tab, where only what is of its port finds it.
- The page loads from its own origin alone, runs no script that is written into it, makes no markup of text, and stands
  in no frame.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""https://www.w3.org/TR/CSP3/. Pictures are drawn from what the stream has brought, and are loaded from nowhere."""

HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),  # without any, a form of ours would not say that it is ours
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]

OPEN = {"/style.css"}
"""What is shown to everybody: the page that asks for the token needs it."""

ENTER = "/enter"
"""Where that page sends the token."""

MAX_FORM_BYTES = 4_096


class Gate:
    """Lets requests through to an application, or answers them itself."""

    def __init__(self, app: App, token: str, hosts: tuple[str, ...], ask: Response) -> None:
        """Stand before `app`.

        Args:
            app: What is behind.
            token: Who knows it may look.
            hosts: What this machine may be called.
            ask: The page that asks for the token.
        """
        self._app, self._hosts, self._ask = app, frozenset(hosts), ask
        self._token = token
        # Of the token, so that a page that is open goes on with the successor of a process that has died.
        self._cookie = hmac.new(token.encode(), b"cookie", "sha256").hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return  # there is nothing else
        headers = _headers(scope)
        cookie = f"remote-gym-{_port(headers.get('host', ''))}"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS, *(given or [])]
            await send(message)

        given: list[tuple[bytes, bytes]] = []
        shown: str | None = None
        response = self._refused(scope, headers)
        is_form = scope["path"] == ENTER and scope["method"] == "POST"
        is_open = scope["path"] in OPEN or self._has_entered(headers, cookie)
        if response is None and (is_form or not is_open):
            shown = await _token_in(receive) if is_form else _token_of(scope)
            if shown is None:
                response = self._ask
            elif not _equal(shown, self._token):
                response = PlainTextResponse("This token opens nothing here. `remote-gym` has printed a link.\n", 403)
            else:
                value = f"{cookie}={self._cookie}; Path=/; HttpOnly; SameSite=Strict"
                given.append((b"set-cookie", value.encode()))
        if response is None and scope["path"] == ENTER:
            # Behind `#`, from where the page takes it as it does from the link; browsers send that to nobody.
            leads = "/" if shown is None else f"/#token={quote(shown, safe='')}"
            response = Response(status_code=303, headers={"location": leads})
        await (self._app if response is None else response)(scope, receive, answer)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """Return the answer to what no page of ours asks for; None: it may be one."""
        host, changes = headers.get("host", ""), scope["method"] not in ("GET", "HEAD")
        if _name(host) not in self._hosts:
            return PlainTextResponse("This address has a name that the dashboard is not known by.\n", 421)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        is_ours = origin is not None and _place(origin) == host
        is_visit = headers.get("sec-fetch-mode") == "navigate" and not changes
        if (origin is not None and not is_ours) or (changes and not is_ours):
            return PlainTextResponse("This was sent by another page.\n", 403)
        if site not in (None, "same-origin", "none") and not is_visit:
            return PlainTextResponse("This was asked for by another page.\n", 403)
        return None

    def _has_entered(self, headers: dict[str, str], name: str) -> bool:
        # Other programs of this host have theirs among them, of whatever form: one that is odd hides none behind it.
        shown = cookie_parser(headers.get("cookie", "")).get(name)
        return shown is not None and _equal(shown, self._cookie)

    def knows(self, token: str | None) -> bool:
        """Return whether who sends `token` knows ours, and has more than the cookie."""
        return token is not None and _equal(token, self._token)


def _headers(scope: Scope) -> dict[str, str]:
    """Return headers by name; one that comes twice has both values, which are then nobody's."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        text = value.decode("latin-1")
        known = name.decode("latin-1").lower()
        found[known] = f"{found[known]},{text}" if known in found else text
    return found


def _name(host: str) -> str:
    """Return the host without its port, and brackets; empty if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    """Return the host and port of an origin; empty if it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _port(host: str) -> str:
    try:
        return str(urlsplit(f"//{host}").port or "")
    except ValueError:
        return ""


def _token_of(scope: Scope) -> str | None:
    """Return the token in the address; None: there is none."""
    try:
        said = parse_qs(scope.get("query_string", b"").decode("ascii"), max_num_fields=100)
    except ValueError:
        return None
    return said["token"][0] if scope["path"] == "/" and "token" in said else None


async def _token_in(receive: Receive) -> str | None:
    """Return the token in a form; None: there is none, or too much else."""
    body, more = b"", True
    while more and len(body) <= MAX_FORM_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False) and message["type"] == "http.request"
    try:
        return parse_qs(body[:MAX_FORM_BYTES].decode("ascii"), max_num_fields=10)["token"][0].strip()
    except (ValueError, KeyError):
        return None


def _equal(one: str, other: str) -> bool:
    """Compare in a time that tells nothing of where they differ."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
