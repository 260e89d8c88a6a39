"""A refusal names its limit and is not endless."""

from __future__ import annotations

from remote_gym.failures import Failure, FailureKind
from remote_gym.server.refusals import RefusalError


def test_a_refusal() -> None:
    failure = Failure(0, FailureKind.RAISED)
    error = RefusalError("max_envs", "no room", failure)
    assert (error.limit, str(error), error.failure) == ("max_envs", "no room", failure)


def test_megabytes_are_not_repeated() -> None:
    assert len(str(RefusalError("request", "x" * 2**20))) < 10_000
