"""Trainer process: what a client is made of once all servers were dialled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from gymnasium.vector.utils import batch_differing_spaces

from remote_gym.client.actions import ActionEncoder
from remote_gym.client.batches import Batches
from remote_gym.client.calls import Calls
from remote_gym.client.exchange import Exchange
from remote_gym.client.fleet import Fleet
from remote_gym.client.hosted import Told
from remote_gym.client.moving import Mover
from remote_gym.client.observations import Observations
from remote_gym.client.ready import Ready
from remote_gym.client.settings import Settings
from remote_gym.client.tracing import Trace
from remote_gym.client.transitions import TransitionReader
from remote_gym.client.turns import Turns
from remote_gym.observation_modes import DIFFERENT


@dataclass(frozen=True)
class Dialled:
    """What there is once all servers were dialled, and not before.

    Attributes:
        told: What the first server told of its environments, which holds for all.
        single: The observation and the action space of a single environment, as users see them.
        observation_space: Of the batch; of the environment if there is only a single one.
        action_space: Likewise.
        encoder: Actions -> rows.
        reader: Answers -> parts.
        observations: The last ones that were handed out.
        batches: Parts -> batches.
        ready: Parts that were not handed out yet.
        exchange: Resets and steps.
        calls: Methods, attributes and frames.
        turns: What may be begun now.
    """

    told: Told
    single: tuple[spaces.Space[Any], spaces.Space[Any]]
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    encoder: ActionEncoder
    reader: TransitionReader
    observations: Observations
    batches: Batches
    ready: Ready
    exchange: Exchange
    calls: Calls
    turns: Turns


def prepared(settings: Settings, fleet: Fleet, told: Told, mover: Mover | None, trace: Trace | None) -> Dialled:
    """Return all that there is of `fleet`, which has dialled, and whose first server has `told` of its environments.

    `mover` finds servers for rows that have lost theirs, `trace` records calls; None: nobody does.
    """
    num_envs, space = settings.num_envs, told.observation_space
    reader = TransitionReader(space, num_envs, settings.compression, settings.copy and not settings.single)
    observations = Observations(space, num_envs)
    exchange = Exchange(fleet, reader, observations, settings, mover)
    ready = Ready(num_envs)
    single, given = told.single, settings.given_spaces
    batched = single if settings.single else told.batched(num_envs)
    if given is not None:
        batched, single = (given[0], batched[1]), (given[1], single[1])
    elif settings.observation_mode == DIFFERENT:
        batched = batch_differing_spaces(fleet.observation_spaces()), batched[1]
    return Dialled(
        told,
        single,
        *batched,
        encoder=ActionEncoder(
            told.action_space,
            settings.validate_actions,
            all(shard.hosted.told.as_given for shard in fleet.shards),
            told.is_vector,
        ),
        reader=reader,
        observations=observations,
        batches=Batches(observations, num_envs, settings.info_format),
        ready=ready,
        exchange=exchange,
        calls=Calls(fleet, exchange, trace),
        turns=Turns(exchange, ready, settings),
    )
