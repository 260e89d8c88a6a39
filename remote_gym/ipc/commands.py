"""Both sides, no I/O: what server and workers say to each other. One NamedTuple per command and one per result.

A *group* is the environments of one session in one worker; its number is the server's choice. Env indices are those of
the session; None stands for all of the group, in order. Bytes are packed by `values` and pass the server unopened;
empty ones stand for nothing to say.

| Command | Result |
|---|---|
| `Start` | `Started` |
| `AskKind` | `EntrypointKind`, `NotBuilt` |
| `BuildGroup`, `BuildMore` | `Building`, `Built`, `NotBuilt` |
| `AttachRows` | `Done`, `RowsRefused` |
| `ResetGroup`, `StepGroup` | `Outcomes`, `NoGroup` |
| `CallGroup`, `SetGroup`, `RenderGroup` | `PackedValues`, `NoGroup` |
| `PictureGroup` | `Picture`, `NoGroup` |
| `CloseGroup` | `Done` |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Union

from remote_gym.failures import Failure

# Commands


class Start(NamedTuple):
    """The first command of all: become like the server was when it was created.

    Attributes:
        environment: Environment variables that starting the worker has changed, as they were; None: there was none.
        limits: What this process may have at most, in bytes, by kind; empty: no limit.
        in_a_sandbox: Whether it forbids itself more, see `worker.confinement`.
        hidden: Files and folders that it must keep itself from reading.
    """

    environment: dict[str, str | None]
    limits: dict[str, int] = {}
    in_a_sandbox: bool = False
    hidden: list[str] = []


class AskKind(NamedTuple):
    """Does the entrypoint make vector environments? It may have to be imported to know."""

    entrypoint: str
    vectorization_mode: str | None


class HostingOptions(NamedTuple):
    """What one session wants of its environments; the fields of the wire's `Open`.

    Attributes:
        mode: `autoreset.NONE` or the value of an `AutoresetMode`; empty: whatever a vector environment does.
        exact_types: Report values that are not of the usual types, for a single environment.
        render_with_step: Send a frame along with every result.
        drop_unportable_infos: Leave out info entries that cannot travel, instead of failing.
        compression: How to compress observations; None: not at all.
        observation_mode: How the environments' observation spaces may differ, see `observation_modes`.
    """

    mode: str
    exact_types: bool = False
    render_with_step: bool = False
    drop_unportable_infos: bool = False
    compression: str | None = None
    observation_mode: str = "same"


class BuildGroup(NamedTuple):
    """Build the environments of a group: those of the first slice, or all of them, if they take the place of lost ones.

    Attributes:
        group: Its number from now on.
        entrypoint: What the server's owner named.
        kwargs: The owner's packed keyword arguments.
        client_kwargs: The client's, which go over the owner's.
        render_mode: The client's; None: none.
        env_ids: Ids in the pool, one per environment to build.
        first: The env index of the first.
        options: What the session wants.
        vectorization_mode: The owner's, see `Settings`.
        is_vector: Build one vector environment for them all.
        spare: A group of one environment, built by the same recipe, that becomes the first of this one; None: none.
        rebuilt: They take the place of lost ones, so they need a reset before a step.
        kept_kwargs: Names of the client's keyword arguments that are set aside.
    """

    group: int
    entrypoint: str
    kwargs: bytes
    client_kwargs: bytes
    render_mode: str | None
    env_ids: Sequence[int]
    first: int
    options: HostingOptions
    vectorization_mode: str | None
    is_vector: bool
    spare: int | None
    rebuilt: bool
    kept_kwargs: Sequence[str] = ()


class BuildMore(NamedTuple):
    """Go on with what `Building` has answered, for another slice: whoever lives in the worker has a turn in between."""

    group: int


class AttachRows(NamedTuple):
    """Map the shared rows of the group's session; their descriptor comes over a socket of its own, in order.

    Attributes:
        group: Whose.
        num_envs: Environments of the session, in all workers.
        size_bytes: Of the memory.
    """

    group: int
    num_envs: int
    size_bytes: int


class ResetGroup(NamedTuple):
    """Begin new episodes and write the observations into the rows; of a vector environment, also who has begun one.

    That stands in the rows of terminations, for its options, mask and all, are its own.

    Attributes:
        group: Whose.
        indices: Which of them.
        seeds: A packed list, one per environment; of a vector environment whatever its client gave.
        options: A packed dict.
    """

    group: int
    indices: Sequence[int] | None
    seeds: bytes
    options: bytes


class StepGroup(NamedTuple):
    """Step, and write the results into the rows.

    Attributes:
        group: Whose.
        indices: Which of them.
        actions: With empty `dtypes` the rows hold the actions, and this is a packed list: per environment the elements
            of the action space's variable leaves, where it has any. With `dtypes` it is the packed rows of these
            environments, one leaf after the other. With None for `dtypes` it is a packed list of whole actions; for a
            vector environment, of the batch alone.
        dtypes: One code per leaf, see `leaves.DTYPES`.
    """

    group: int
    indices: Sequence[int] | None
    actions: bytes
    dtypes: bytes | None = b""


class CallGroup(NamedTuple):
    """Call a method, or read an attribute; with empty `arguments` nothing is called, only looked at.

    `guarded` is the name that is touched in the end, to be refused where a wrapper that writes files has it; empty: not
    to be refused.
    """

    group: int
    indices: Sequence[int] | None
    name: str
    arguments: bytes
    guarded: str = ""


class SetGroup(NamedTuple):
    """Set an attribute, to a value per environment (a packed list)."""

    group: int
    indices: Sequence[int] | None
    values: bytes
    name: str


class RenderGroup(NamedTuple):
    """Render."""

    group: int
    indices: Sequence[int] | None


class PictureGroup(NamedTuple):
    """Make a picture of one environment, for who looks on; nothing else of it is touched.

    Attributes:
        group: Whose.
        env: The index of which of them.
        max_width: Of the picture, in pixels.
    """

    group: int
    env: int
    max_width: int


class CloseGroup(NamedTuple):
    """Close the environments and forget the group; one that does not exist is closed already."""

    group: int


# Results


class Started(NamedTuple):
    """The worker runs."""

    pid: int


class EntrypointKind(NamedTuple):
    """What the entrypoint makes."""

    is_vector: bool


class Built(NamedTuple):
    """The environments of a group are built; the first of them tells what opening tells the client.

    Attributes:
        observation_spaces: Where they may differ, that of each, without generators; a single one: all are equal.
    """

    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    spec_kwargs: bytes
    spec_json: str
    metadata: bytes
    render_mode: str | None
    hosted_vector: bool
    observation_spaces: Sequence[dict[str, Any]] = ()


class Building(NamedTuple):
    """So many environments of a group are built, and not all: `BuildMore` is wanted, or `CloseGroup`."""

    num_built: int


class NotBuilt(NamedTuple):
    """An environment could not be built, and why."""

    failure: Failure


class Done(NamedTuple):
    """It is done, and there is nothing to tell."""


class RowsRefused(NamedTuple):
    """The rows could not be mapped, and why."""

    reason: str


class Outcomes(NamedTuple):
    """Of a reset or step; the rest is in the rows.

    Attributes:
        said: What there is to say besides the rows, packed as the wire has it.
        failures: Of the environments whose rows say nothing.
        pieces: Leaf number -> its rows, compressed, as packed values; an empty list stands for rows that hardly shrink
            and are to be sent as they are. Only in sessions with compression.
        apart: What there is to say instead of `said` where that is too much for one value: parts, each with the env
            indices that it is about. An environment is in one of them, or alone in several.
    """

    said: bytes
    failures: Sequence[Failure]
    pieces: dict[int, list[bytes]]
    apart: Sequence[tuple[Sequence[int], bytes]] = ()


NOTHING_TO_SAY = Outcomes(b"", [], {})
"""The usual ones, all in the rows: a worker answers with this very object, so that its link knows the bytes."""


class PackedValues(NamedTuple):
    """What calls returned: one packed value per environment asked, empty where a failure stands for it."""

    values: Sequence[bytes]
    failures: Sequence[Failure]


class Picture(NamedTuple):
    """A picture.

    Attributes:
        data: A PNG file; empty if there is none.
        width: In pixels.
        height: Likewise.
        missing: Why there is none.
        nanoseconds: What it took.
    """

    data: bytes
    width: int
    height: int
    missing: str
    nanoseconds: int


class NoGroup(NamedTuple):
    """There is no such group: it could not be built, or not again."""


Command = Union[
    Start, AskKind, BuildGroup, BuildMore, AttachRows, ResetGroup, StepGroup, CallGroup, SetGroup, RenderGroup,
    PictureGroup, CloseGroup,
]  # fmt: skip
Result = Union[
    Started, EntrypointKind, Built, Building, NotBuilt, Done, RowsRefused, Outcomes, PackedValues, Picture, NoGroup
]  # fmt: skip


# As arrays


def _build_group(fields: Sequence[Any]) -> BuildGroup:
    command = BuildGroup._make(fields)
    return command._replace(options=HostingOptions._make(command.options))


def _not_built(fields: Sequence[Any]) -> NotBuilt:
    (failure,) = fields
    if type(failure) is not Failure:
        raise TypeError("what was not built has no failure")
    return NotBuilt(failure)


_COMMANDS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Start, Start._make),
    (AskKind, AskKind._make),
    (BuildGroup, _build_group),
    (BuildMore, BuildMore._make),
    (AttachRows, AttachRows._make),
    (ResetGroup, ResetGroup._make),
    (StepGroup, StepGroup._make),
    (CallGroup, CallGroup._make),
    (SetGroup, SetGroup._make),
    (RenderGroup, RenderGroup._make),
    (PictureGroup, PictureGroup._make),
    (CloseGroup, CloseGroup._make),
)
_RESULTS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Started, Started._make),
    (EntrypointKind, EntrypointKind._make),
    (Built, Built._make),
    (Building, Building._make),
    (NotBuilt, _not_built),
    (Done, Done._make),
    (RowsRefused, RowsRefused._make),
    (Outcomes, Outcomes._make),
    (PackedValues, PackedValues._make),
    (Picture, Picture._make),
    (NoGroup, NoGroup._make),
)

KIND_OF: dict[type, int] = {kind: number for one in (_COMMANDS, _RESULTS) for number, (kind, _) in enumerate(one)}
"""The number that stands before the fields of a command, or of a result."""

COMMANDS: dict[int, Callable[[Any], Any]] = {number: make for number, (_, make) in enumerate(_COMMANDS)}
RESULTS: dict[int, Callable[[Any], Any]] = {number: make for number, (_, make) in enumerate(_RESULTS)}
"""By that number: what makes it of its fields."""
