"""No I/O: spans as the JSON of OTLP has them -> one trace as a waterfall, as text and as a picture."""

from __future__ import annotations

import html
import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from remote_gym.errors import MisuseError

SERVICE, WORKER = "service.name", "remote_gym.worker"
BAR_COLUMNS = 40
"""Of the text."""
MAX_SPANS = 200
"""Of one picture; more are counted."""


@dataclass
class Span:
    """One span.

    Attributes:
        trace: The id of its trace.
        id: Its own.
        parent: That of the span it lies below; empty: none is.
        name: What happened.
        where: In which process: the service's name, or the worker's.
        began: Nanoseconds since 1970.
        ended: Likewise.
        failed: Whether it did.
        events: (nanoseconds, name) of what happened within it.
        attributes: What else is said of it.
        below: Spans below it, in the order in which they began.
    """

    trace: str
    id: str
    parent: str
    name: str
    where: str
    began: int
    ended: int
    failed: bool
    events: list[tuple[int, str]]
    attributes: dict[str, Any]
    below: list[Span] = field(default_factory=list)

    @property
    def nanoseconds(self) -> int:
        """How long it took."""
        return self.ended - self.began

    def shift(self, nanoseconds: int) -> None:
        """Move it, and all below it, in time."""
        self.began += nanoseconds
        self.ended += nanoseconds
        self.events = [(at + nanoseconds, name) for at, name in self.events]
        for span in self.below:
            span.shift(nanoseconds)


def read_spans(lines: Iterable[str]) -> list[Span]:
    """Return the spans in `lines`, each of them the JSON of an OTLP request.

    Raises:
        MisuseError: One is something else.
    """
    spans = []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                spans += list(_spans_of(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MisuseError(f"line {number} holds no spans as JSON of OTLP: {error!r:.120}") from None
    return spans


def _spans_of(request: dict[str, Any]) -> Iterator[Span]:
    for resource in request["resourceSpans"]:
        service = str(_attributes(resource.get("resource", {}).get("attributes", [])).get(SERVICE, ""))
        for scope in resource["scopeSpans"]:
            for one in scope["spans"]:
                attributes = _attributes(one.get("attributes", []))
                # A worker's own span lies within the round that the server has with it.
                worker = attributes.get(WORKER) if one["name"] not in ("round", "queue") else None
                yield Span(
                    one["traceId"], one["spanId"], one.get("parentSpanId", ""), str(one["name"]),
                    str(worker or service), int(one["startTimeUnixNano"]), int(one["endTimeUnixNano"]),
                    one.get("status", {}).get("code") == 2,
                    [(int(event["timeUnixNano"]), str(event["name"])) for event in one.get("events", [])],
                    attributes,
                )  # fmt: skip


def _attributes(listed: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values()), None) for one in listed}


def roots(spans: Sequence[Span]) -> list[Span]:
    """Return the spans that lie below none of `spans`, with all others put below theirs, in order of time."""
    by_id = {(span.trace, span.id): span for span in spans}
    tops: list[Span] = []
    for span in sorted(by_id.values(), key=lambda span: (span.began, -span.ended)):
        above = by_id.get((span.trace, span.parent))
        (tops if above is None else above.below).append(span)
    return tops


def chosen(tops: Sequence[Span], name: str, which: str) -> Span:
    """Return one of `tops` whose name ends with `name`: the ``"slowest"``, ``"median"`` or ``"last"``; or a trace's.

    Raises:
        MisuseError: There is none.
    """
    if which not in ("slowest", "median", "last"):
        named = [top for top in tops if top.trace.startswith(which.lower())]
    else:
        named = [top for top in tops if top.name.endswith(name)]
    if not named:
        known = ", ".join(sorted({top.name for top in tops})[:8]) or "nothing at all"
        raise MisuseError(f"no trace like that was recorded; there are {known}")
    if which == "last":
        return named[-1]
    by_time = sorted(named, key=lambda top: top.nanoseconds)
    return by_time[len(by_time) // 2] if which == "median" else by_time[-1]


def aligned(top: Span) -> bool:
    """Put what another machine has recorded, by a clock that goes otherwise, into the middle of what waited for it.

    That is what seems to begin outside. It may well end there: a server hears of an answer's having been written after
    the client has read it.

    Returns:
        Whether anything was moved.
    """
    moved = False
    for span in top.below:
        begun = [one.began for _, one in flat(span)]
        if span.where != top.where and (min(begun) < top.began or max(begun) > top.ended):
            span.shift(top.began + max(0, top.nanoseconds - span.nanoseconds) // 2 - span.began)
            moved = True
        moved = aligned(span) or moved
    return moved


def flat(top: Span, depth: int = 0) -> Iterator[tuple[int, Span]]:
    """Yield `top` and all below it with how deep they lie, as they are drawn."""
    yield depth, top
    for span in top.below:
        yield from flat(span, depth + 1)


def label(span: Span) -> str:
    """Return what a span is called, with how many environments it is about."""
    count = span.attributes.get("remote_gym.num_envs")
    return span.name if count is None else f"{span.name} ({count} env{'s' * (str(count) != '1')})"


def as_text(top: Span) -> str:
    """Return the trace of `top`, a line per span: where, what, when it began and how long it took, and a bar."""
    rows = list(flat(top))[:MAX_SPANS]
    whole = max(1, top.nanoseconds)
    places, names = max(len(span.where) for _, span in rows), max(len(_indented(*row)) for row in rows)
    lines = [f"trace {top.trace}", f"{'':{places}}  {'':{names}}  {'begins':>9}  {'takes':>9}  microseconds"]
    for depth, span in rows:
        start = min(BAR_COLUMNS - 1, max(0, (span.began - top.began) * BAR_COLUMNS // whole))
        width = max(1, min(BAR_COLUMNS - start, round(span.nanoseconds * BAR_COLUMNS / whole)))
        bar = " " * start + ("x" if span.failed else "█") * width
        said = "".join(f" {name}" for _, name in span.events)
        lines.append(
            f"{span.where:{places}}  {_indented(depth, span):{names}}  {(span.began - top.began) / 1e3:9,.0f}  "
            f"{span.nanoseconds / 1e3:9,.0f}  {bar}{said}".rstrip()
        )
    return "\n".join(lines)


def _indented(depth: int, span: Span) -> str:
    return "  " * depth + label(span)


def summary(tops: Sequence[Span], name: str) -> str:
    """Return of each kind of span how many there are and what they took: the median and the 99th percentile.

    Of `tops` those whose names end with `name` count, with all below them.

    Raises:
        MisuseError: There is none.
    """
    kinds: dict[tuple[str, str], list[int]] = {}
    chosen(tops, name, "last")
    for top in (top for top in tops if top.name.endswith(name)):
        for depth, span in flat(top):
            place = "worker" if WORKER in span.attributes and span.name not in ("round", "queue") else span.where
            kinds.setdefault((place, "  " * depth + span.name), []).append(span.nanoseconds)
    places, names = (max(len(kind[at]) for kind in kinds) for at in (0, 1))
    lines = [f"{'':{places}}  {'':{names}}  {'spans':>7}  {'median':>9}  {'99 %':>9}  microseconds"]
    for (place, name), took in kinds.items():
        last = sorted(took)[min(len(took) - 1, len(took) * 99 // 100)]
        lines.append(
            f"{place:{places}}  {name:{names}}  {len(took):7,}  {statistics.median(took) / 1e3:9,.1f}  "
            f"{last / 1e3:9,.1f}"
        )
    return "\n".join(lines)


# The picture

LIGHT = {"paper": "#ffffff", "ink": "#1b1f24", "dim": "#59636e", "line": "#d1d9e0", "failed": "#c62828"}
DARK = {"paper": "#14181d", "ink": "#e6edf3", "dim": "#9198a1", "line": "#3d444d", "failed": "#ff7b72"}
PLACES = {False: ("#2f6fb7", "#2e7d4f", "#b26a00"), True: ("#6cb0f5", "#63c787", "#e3a545")}
"""Colours of bars: the client's, the server's, the workers'."""

_WIDTH, _ROW, _LEFT, _RIGHT, _TOP = 960, 24, 340, 80, 56


def as_svg(top: Span, dark: bool = False) -> str:
    """Return the trace of `top` as a picture, its times in microseconds."""
    colours, rows = DARK if dark else LIGHT, list(flat(top))[:MAX_SPANS]
    whole, room = max(1, top.nanoseconds), _WIDTH - _LEFT - _RIGHT
    height = _TOP + _ROW * len(rows) + 12
    order = list(dict.fromkeys(span.where for _, span in rows))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13" role="img">',
        f"<title>{_text(top.name)}: {len(rows)} spans in {top.nanoseconds / 1e3:,.0f} microseconds</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="{colours["paper"]}"/>',
    ]
    for number, place in enumerate(order[:5]):
        at = 12 + 190 * number
        parts.append(f'<rect x="{at}" y="12" width="12" height="12" rx="2" fill="{_colour(place, order, dark)}"/>')
        parts.append(f'<text x="{at + 18}" y="22.5" fill="{colours["ink"]}">{_text(place)}</text>')
    for tick in range(5):
        x = _LEFT + room * tick / 4
        parts.append(f'<path d="M{x:.1f} {_TOP - 6}V{height - 8}" stroke="{colours["line"]}"/>')
        said = f"{whole * tick / 4e3:,.0f}{' µs' * (tick == 4)}"
        parts.append(f'<text x="{x:.1f}" y="{_TOP - 12}" fill="{colours["dim"]}" text-anchor="middle">{said}</text>')
    for row, (depth, span) in enumerate(rows):
        y = _TOP + _ROW * row
        x = _LEFT + room * min(1.0, max(0.0, (span.began - top.began) / whole))
        width = max(2.0, min(_LEFT + room - x, room * span.nanoseconds / whole))
        fill = colours["failed"] if span.failed else _colour(span.where, order, dark)
        parts.append(f'<text x="{12 + 16 * depth}" y="{y + 16}" fill="{colours["ink"]}">{_text(label(span))}</text>')
        parts.append(f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="{_ROW - 8}" rx="2" fill="{fill}"/>')
        parts.append(
            f'<text x="{x + width + 6:.1f}" y="{y + 16}" fill="{colours["dim"]}">{span.nanoseconds / 1e3:,.0f}</text>'
        )
        for at, name in span.events:
            x = _LEFT + room * min(1.0, max(0.0, (at - top.began) / whole))
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y + _ROW / 2}" r="4" fill="{colours["failed"]}">'
                f"<title>{_text(name)}</title></circle>"
            )
    return "\n".join([*parts, "</svg>\n"])


def _colour(place: str, order: Sequence[str], dark: bool) -> str:
    colours = PLACES[dark]
    return colours[min(order.index(place), len(colours) - 1)]


def _text(text: str) -> str:
    """Return a text of a file as one of the picture: no mark-up, nothing that cannot be shown, not without end."""
    return html.escape("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text[:80]))
