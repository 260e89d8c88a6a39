"""One session's environments as a whole: nothing before they are open, nobody answered after they are released."""

from __future__ import annotations

import asyncio
from typing import Any

from fake_workers import Worker, block, worker_of
from gymnasium import spaces

from remote_gym.ipc.commands import StepGroup
from remote_gym.messages import Open, Step
from remote_gym.pool import AskKind, AttachRows, Block, BuildGroup, Built, Done, EntrypointKind, Outcomes, WorkerLost
from remote_gym.server.environments import SessionEnvironments
from remote_gym.spaces import describe

BUILT = Built(describe(spaces.Box(0, 1)), describe(spaces.Discrete(3)), b"", "", b"", None, False)
SAID = {AskKind: EntrypointKind(False), BuildGroup: BUILT, AttachRows: Done()}
LOST = WorkerLost("exit code 3", 100)


class Eager(Worker):
    """Builds at once; steps wait for the test."""

    def submit(self, command: Any, callback: Any) -> None:
        if type(command) in SAID:
            callback(SAID[type(command)])
        else:
            super().submit(command, callback)


class Pool:
    hosts_vector = None

    def __init__(self) -> None:
        self.workers = [Eager()]
        self.released: list[Block] = []

    async def place(self, num_envs: int, on_lost: Any, _recipe: Any, _whole: bool, on_died: Any) -> list[Block]:
        self.on_lost, self.on_died = on_lost, on_died
        return [block(0, num_envs, self.workers[0])]

    def release(self, block: Block) -> None:
        self.released.append(block)


class Settings:
    entrypoint = "file.py"
    packed_kwargs = b""
    vectorization_mode = None


def test_the_life_of_a_sessions_environments() -> None:
    async def main() -> None:
        pool: Any = Pool()
        settings: Any = Settings()
        answers: list[Any] = []
        environments = SessionEnvironments(
            Open(1, 1, b"", 2), b"", settings, pool, lambda *answer: answers.append(answer), answers.append
        )
        assert environments.running == 0
        assert await environments.open() == BUILT
        assert environments.env_ids == [100, 101]
        assert environments.action_space == spaces.Discrete(3)
        assert not environments.is_vector

        def step(number: int) -> None:
            environments.run(Step(number, None, [bytes(16)]), lambda group, own, _at: StepGroup(group, own, b""))

        step(1)
        assert environments.running == 1
        pool.workers[0].answer(Outcomes(b"", [], {}))
        assert (environments.running, len(answers)) == (0, 1)

        step(2)  # its worker dies, and is replaced
        (one,) = [found for found in [environments._opening.blocks[0]] if worker_of(found) is pool.workers[0]]
        pool.workers[0].answer(LOST)
        pool.on_died(one, LOST)
        pool.on_lost(one, LOST, True)
        assert len(answers) == 2
        step(3)
        pool.workers[0].answer(Outcomes(b"", [], {}))
        assert len(answers) == 3

        step(4)
        environments.release()
        environments.release()
        assert len(pool.released) == 1
        pool.workers[0].answer(Outcomes(b"", [], {}))
        pool.on_lost(one, LOST, True)  # too late: nothing is built again
        assert (environments.running, len(answers)) == (0, 3)

    asyncio.run(main())


def test_what_was_never_opened_can_be_released() -> None:
    settings: Any = Settings()
    pool: Any = Pool()
    SessionEnvironments(Open(1, 1, b"", 2), b"", settings, pool, lambda *_: None, lambda _: None).release()
    assert pool.released == []
