"""Trainer process: the part of `RemoteVectorEnv` that tells of its servers, and of what its environments look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remote_gym.client.blocks import Blocks
from remote_gym.client.inline import Inline, check_fps, rows_to_show
from remote_gym.client.remote import Remote


class Overseeing:
    """`fleet`, `rebalance`, `statistics` and `watch`."""

    _remote: Remote
    num_envs: int

    @property
    def fleet(self) -> Blocks:
        """Which rows are on which server, in the order of rows, as (address, rows, state, step_seconds, straggling).

        The state is ``"there"``; ``"leaving"``, where rows go to another server when their episodes end; or
        ``"moving"``, with an empty address, while `on_session_lost="move"` looks for another server. A step of that
        server usually takes `step_seconds` (None: not known), as seen from here; `straggling`: more than twice as long
        as is usual among the others. For logs: it may be another one a moment later. Dials nothing.
        """
        return self._remote.fleet.blocks()

    def rebalance(self) -> None:
        """Bring the shares of the servers that there are now into proportion to their workers; returns at once.

        The source is asked; who has joined gets environments, and who is named no longer gives its own away, as few as
        can be. A row goes when its episode ends, or when it is reset: nothing is cut short. What it does until then is
        what it would have done; after that it is a new environment, seeded like one that was lost, and its infos tell
        where it is. See `docs/how-to/fleet.md`.

        Raises:
            MisuseError: `on_session_lost` is not ``"move"``.
            gymnasium.error.ClosedEnvironmentError: It was closed.
        """
        self._remote.rebalance()

    def statistics(self) -> dict[str, Any]:
        """Return what this client has done and knows of its servers; dials nothing and asks nobody.

        Returns:
            A dict. `rows` that have a server, and `homeless` ones; since the beginning `env_steps`, `sent_bytes`,
            `received_bytes`, `reconnects`, and `moves`: rows that were built on another server; `stragglers`: their
            addresses. `servers`, by address: `rows`, the same counts, `moved_in` and `moved_out`; `straggling`;
            `step_seconds`: ``{"p50", "p90", "p99"}`` of the last steps as seen from here; `server_step_seconds`: as the
            server sees them; `env_step_seconds`: one environment's step in a worker; `workers`; `envs`: of all its
            clients. None where it is not known: servers tell every 5 s.
        """
        return self._remote.statistics()

    def watch(self, rows: int | Sequence[int] = 16, fps: float = 2.0) -> Inline:
        """Show frames in the output of this cell of a notebook, and bring them up to date with what is stepped.

        Each reset and step that returns when a picture is due fetches the frames as `render` does, in this session: a
        round trip, and what rendering costs and changes where the environments run. At most half of the time is spent
        on it. Watching again, elsewhere, ends it here. See `docs/how-to/notebooks.md`.

        Args:
            rows: How many environments to show, the first ones, or which: distinct env indices.
            fps: Pictures per second at most.

        Returns:
            What ends it by its `stop()`; so does `close`.

        Raises:
            MisuseError: This is no notebook; the environments have no ``render_mode="rgb_array"``; or, with a
                `batch_size`, no ``render_with_step=True``.
        """
        return self._remote.watch(rows_to_show(rows, self.num_envs), check_fps(fps))
