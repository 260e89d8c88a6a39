"""Trainer process: what a notebook shows of environments. Reads what is known; dials nothing, asks nobody."""

from __future__ import annotations

from remote_gym.client.blocks import COLUMNS
from remote_gym.client.dialled import Dialled
from remote_gym.client.remote import Remote
from remote_gym.client.statistics import collect
from remote_gym.html_facts import facts_html


def remote_html(name: str, remote: Remote) -> str:
    """Return what is known of a client's environments, as HTML."""
    settings, dialled = remote.settings, remote.dialled
    facts = [("state", _state(remote, dialled)), ("hosted", "" if (spec := remote.known_spec) is None else spec.id)]
    if not settings.single:
        facts += [
            ("environments", f"{settings.num_envs:,}"),
            ("autoreset mode", settings.mode.value),
            ("batch size", "" if settings.batch_size is None else str(settings.batch_size)),
        ]
    facts.append(("render mode", settings.render_mode or ""))
    if dialled is not None:
        facts += [
            ("observation space", str(dialled.single[0])),
            ("action space", str(dialled.single[1])),
            ("steps so far", f"{collect(remote.fleet)['env_steps']:,}"),
        ]
    lines: list[tuple[str, ...]] = [(place, "", "", "") for place in remote.places]
    if dialled is not None and not remote.closed:
        lines = remote.fleet.blocks().lines()
    return facts_html(name, [fact for fact in facts if fact[1]], COLUMNS, lines)


def _state(remote: Remote, dialled: Dialled | None) -> str:
    if remote.closed:
        return "closed"
    if dialled is None:
        return "not dialled yet"
    return "open" if (pending := remote.pending) is None else f"open, {pending} pending"
