"""Servers on a Ray cluster: Ray places them, starts them and starts them anew; our own connections carry the steps.

    driver        Farm     places and starts     ->   Server   one actor each, with a `RemoteEnvironmentServer` in it
    any process   FarmAddresses, FarmCredentials  ->   Keeper   one actor: who is where, and the farm's authority
    Server        reports to the keeper, every second

All actors have names, by which everybody finds them again: a restarted one, another driver, an env runner of RLlib's.
Inside of this package `ray` is Ray itself: imports are absolute.
"""

from __future__ import annotations

try:
    import ray  # noqa: F401 - all of this package needs it, and what follows says so worse
except ModuleNotFoundError as missing:
    raise ImportError("remote_gym.ray needs Ray: pip install 'remote-gym-pool[ray]'") from missing

from remote_gym.ray.farm import Farm
from remote_gym.ray.keeper import ServerStatus

__all__ = ["Farm", "ServerStatus"]
