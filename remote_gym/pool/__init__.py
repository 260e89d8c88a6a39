"""Server process, the parent's side of workers: placed, started, watched, replaced. Imports no gRPC.

All that the server needs of the pool is named here, the commands for workers and their results among it.
"""

from __future__ import annotations

from remote_gym.ipc.commands import (
    AskKind,
    AttachRows,
    BuildGroup,
    Building,
    BuildMore,
    Built,
    CallGroup,
    Command,
    Done,
    EntrypointKind,
    HostingOptions,
    NoGroup,
    NotBuilt,
    Outcomes,
    PackedValues,
    Picture,
    PictureGroup,
    RenderGroup,
    ResetGroup,
    RowsRefused,
    SetGroup,
    StepGroup,
)
from remote_gym.ipc.memory import SharedBlock
from remote_gym.ipc.progress import NO_GROUP, STEP_BOUNDS_SECONDS
from remote_gym.ipc.rows import Rows
from remote_gym.pool.block import Block, OnDied, OnLost
from remote_gym.pool.confining import Confinement
from remote_gym.pool.exits import WorkerLost
from remote_gym.pool.placement import NoRoomError
from remote_gym.pool.pool import Pool, Timeouts
from remote_gym.pool.reserve import check_descriptors, connection_limit, hold_standard_descriptors
from remote_gym.pool.surroundings import Surroundings
from remote_gym.pool.worker_process import Callback, WorkerProcess
from remote_gym.pool.workforce import WARM_SECONDS

__all__ = [
    "NO_GROUP",
    "STEP_BOUNDS_SECONDS",
    "WARM_SECONDS",
    "AskKind",
    "AttachRows",
    "Block",
    "BuildGroup",
    "BuildMore",
    "Building",
    "Built",
    "CallGroup",
    "Callback",
    "Command",
    "Confinement",
    "Done",
    "EntrypointKind",
    "HostingOptions",
    "NoGroup",
    "NoRoomError",
    "NotBuilt",
    "OnDied",
    "OnLost",
    "Outcomes",
    "PackedValues",
    "Picture",
    "PictureGroup",
    "Pool",
    "RenderGroup",
    "ResetGroup",
    "Rows",
    "RowsRefused",
    "SetGroup",
    "SharedBlock",
    "StepGroup",
    "Surroundings",
    "Timeouts",
    "WorkerLost",
    "WorkerProcess",
    "check_descriptors",
    "connection_limit",
    "hold_standard_descriptors",
]
