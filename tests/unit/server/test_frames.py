"""Pictures of environments: who gets them, when a worker makes them, and how often at most."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import ServerFactory
from looking import decoded, on_loop

from remote_gym import RemoteEnvironmentServer, RemoteVectorEnv
from remote_gym.figures import Frame, FrameRequest
from remote_gym.pool import Picture, WorkerLost
from remote_gym.server import frames
from remote_gym.server.frames import NOT_ALLOWED, SHARE, UNKNOWN, FrameMaker
from remote_gym.server.snapshots import View

OWN = View("anonymous", False)


def frame_of(server: RemoteEnvironmentServer, env: int = 0, view: View = OWN, session: bytes | None = None) -> Frame:
    async def make() -> Frame:
        wanted = FrameRequest(session or next(iter(server._sessions.by_id)), env, 16)
        return await FrameMaker(server._sessions).frame(wanted, view)

    frame: Frame = on_loop(server, make())
    return frame


@pytest.fixture
def showing(serve: ServerFactory) -> RemoteEnvironmentServer:
    return serve("toys:create", {"toy": "counter"}, num_workers=1, frames=True, allow_client_kwargs="*")


def test_a_picture_shows_the_state_just_stepped_to(showing: RemoteEnvironmentServer) -> None:
    with RemoteVectorEnv(showing.address, num_envs=2, render_mode="rgb_array") as envs:
        envs.reset(seed=1)
        for steps in range(1, 4):
            envs.step(envs.action_space.sample() * 0)
            frame = frame_of(showing, 1)
            assert frame.missing == ""
            assert (decoded(frame.data) == steps).all()
            assert (frame.episode_length, frame.episode_return) == (steps, sum(range(steps + 1)))
            assert (frame.content_type, frame.width, frame.height) == ("image/png", 4, 4)


def test_why_there_is_none(serve: ServerFactory, showing: RemoteEnvironmentServer) -> None:
    with RemoteVectorEnv(showing.address, num_envs=2) as envs:
        envs.reset(seed=1)
        assert "render mode" in frame_of(showing).missing
        assert "2 environments" in frame_of(showing, 2).missing
        assert frame_of(showing, view=View("ada", False)).missing == UNKNOWN
        assert frame_of(showing, session=bytes(16)).missing == UNKNOWN
    silent = serve(num_workers=1)
    with RemoteVectorEnv(silent.address, num_envs=1, render_mode="rgb_array") as envs:
        envs.reset(seed=1)
        assert frame_of(silent).missing == NOT_ALLOWED
        assert frame_of(silent, view=View("ada", False)).missing == UNKNOWN


def test_looking_changes_no_trajectory(showing: RemoteEnvironmentServer) -> None:
    kwargs: Any = {"num_envs": 2, "render_mode": "rgb_array", "remote_args": {"entrypoint_kwargs": {"length": 3}}}
    with RemoteVectorEnv(showing.address, **kwargs) as envs, RemoteVectorEnv(showing.address, **kwargs) as others:
        for one in (envs, others):
            one.reset(seed=5)
        session = next(iter(showing._sessions.by_id.values()))
        for _ in range(9):
            before = session.requests
            assert frame_of(showing, 0, session=session.id).data
            assert session.requests == before
            (seen, *_), (unseen, *_) = (one.step(one.action_space.sample() * 0) for one in (envs, others))
            assert (seen == unseen).all()


class Worker:
    """Makes pictures when told, of that duration."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.withdrawn = 0

    def submit_at_leisure(self, command: Any, callback: Any) -> Any:
        self.waiting.append(callback)

        def withdraw() -> bool:
            if callback not in self.waiting:
                return False
            self.waiting.remove(callback)
            self.withdrawn += 1
            return True

        return withdraw

    def answer(self, result: Any) -> None:
        self.begin()(result)

    def begin(self) -> Any:
        """Begin the first one; return what takes its result."""
        return self.waiting.pop(0)


class Stage:
    """One session in one worker that is not there."""

    def __init__(self, server: RemoteEnvironmentServer) -> None:
        self.session: Any = next(iter(server._sessions.by_id.values()))
        self.maker, self.worker = FrameMaker(server._sessions), Worker()

    def ask(self, width: int = 16) -> asyncio.Task[Frame]:
        wanted, worker = FrameRequest(self.session.id, 0, width), self.worker
        coroutine: Any = self.maker._in_turn(wanted, self.session, worker, None)  # type: ignore[arg-type]
        return asyncio.ensure_future(coroutine)


MADE = Picture(b"png", 1, 1, "", 1_000_000)


def staged(showing: RemoteEnvironmentServer, play: Any) -> None:
    with RemoteVectorEnv(showing.address, num_envs=1, render_mode="rgb_array") as envs:
        envs.reset(seed=1)

        async def run() -> None:
            await play(Stage(showing))

        on_loop(showing, run())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_worker_makes_one_at_a_time_and_then_rests(showing: RemoteEnvironmentServer) -> None:
    async def play(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        one, other = stage.ask(16), stage.ask(17)
        await settle()
        assert len(stage.worker.waiting) == 1
        stage.worker.answer(MADE._replace(nanoseconds=10_000_000))
        answered = loop.time()
        assert (await one).data == b"png"
        while not stage.worker.waiting:
            await asyncio.sleep(0.001)
        assert loop.time() - answered >= 0.9 * 0.010 * (1 / SHARE - 1)
        stage.worker.answer(MADE)
        await other

    staged(showing, play)


def test_the_first_picture_which_starts_what_renders_is_not_held_against_the_others(
    showing: RemoteEnvironmentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "FIRST_REST_SECONDS", 0.05)

    async def play(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        for seconds, rests in ((100.0, 0.05), (0.010, 0.19)):
            asked = stage.ask()
            while not stage.worker.waiting:
                await asyncio.sleep(0.001)
            stage.worker.answer(MADE._replace(nanoseconds=int(1e9 * seconds)))
            await asked
            rest = stage.maker._turns[stage.worker].rests_until - loop.time()
            assert 0.5 * rests < rest <= rests
            stage.maker._made.clear()  # else it is shown once more

    staged(showing, play)


def test_who_wants_the_same_gets_the_same(showing: RemoteEnvironmentServer) -> None:
    async def play(stage: Stage) -> None:
        asked = [stage.ask() for _ in range(3)]
        await settle()
        stage.worker.answer(MADE)
        assert {(await one).data for one in asked} == {b"png"}
        assert (await stage.ask()).data == b"png"  # nothing has happened since
        assert not stage.worker.waiting
        stage.session.episodes.env_steps += 1
        again = stage.ask()
        await asyncio.sleep(0.05)
        stage.worker.answer(MADE._replace(data=b"new"))
        assert (await again).data == b"new"

    staged(showing, play)


def test_a_request_that_comes_while_a_picture_is_made_makes_it_an_old_one(showing: RemoteEnvironmentServer) -> None:
    async def play(stage: Stage) -> None:
        asked = stage.ask()
        await settle()
        answer = stage.worker.begin()
        stage.session.episodes.env_steps += 1
        answer(MADE._replace(nanoseconds=0))
        assert (await asked).data == b"png"
        again = stage.ask()
        while not stage.worker.waiting:
            await asyncio.sleep(0.001)
        stage.worker.answer(MADE._replace(data=b"new"))
        assert (await again).data == b"new"

    staged(showing, play)


def test_a_worker_without_leisure_and_one_that_dies(
    showing: RemoteEnvironmentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(stage: Stage) -> None:
        monkeypatch.setattr(frames, "PATIENCE_SECONDS", 0.01)
        assert "not idle" in (await stage.ask()).missing
        assert (stage.worker.waiting, stage.worker.withdrawn) == ([], 1)
        monkeypatch.setattr(frames, "PATIENCE_SECONDS", 10.0)
        dying = stage.ask()
        await settle()
        stage.worker.answer(WorkerLost("exit code 3", 0))
        assert "exit code 3" in (await dying).missing
        leaving = stage.ask()
        await settle()
        leaving.cancel()
        await settle()
        assert stage.worker.waiting == []

    staged(showing, play)


def test_one_that_has_begun_is_waited_for_and_paid_for(
    showing: RemoteEnvironmentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(frames, "FIRST_REST_SECONDS", 100.0)

    async def play(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        asked = stage.ask()
        await settle()
        answer = stage.worker.begin()
        assert not (await asyncio.wait([asked], timeout=0.1))[0]
        answer(MADE._replace(nanoseconds=1_000_000_000))
        assert ((await asked).data, stage.worker.withdrawn) == (b"png", 0)
        assert stage.maker._turns[stage.worker].rests_until - loop.time() > 0.9 * (1 / SHARE - 1)

    staged(showing, play)


def test_who_leaves_while_a_picture_is_made_saves_the_worker_no_rest(showing: RemoteEnvironmentServer) -> None:
    async def play(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        leaving = stage.ask()
        await settle()
        answer = stage.worker.begin()
        leaving.cancel()
        next_one = stage.ask()
        await asyncio.sleep(0.01)
        assert (leaving.cancelled(), stage.worker.waiting) == (True, []), "the worker is at it still"
        answer(MADE._replace(nanoseconds=10_000_000))
        answered = loop.time()
        while not stage.worker.waiting:
            await asyncio.sleep(0.001)
        assert loop.time() - answered >= 0.9 * 0.010 * (1 / SHARE - 1)
        stage.worker.answer(MADE)
        assert (await next_one).data == b"png"

    staged(showing, play)


def test_for_what_is_not_there_it_looks_less_often(
    showing: RemoteEnvironmentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "UNSEEN_SECONDS", 60.0)

    class Maker(FrameMaker):
        async def frame(self, wanted: FrameRequest, view: View) -> Frame:
            looks[wanted.env] += 1
            return await super().frame(wanted, view)

    async def look(session: bytes) -> None:
        wanted = [FrameRequest(session, 0), FrameRequest(bytes(16), 1), FrameRequest(session, 2)]
        end = Maker(showing._sessions).show(wanted, OWN, 0.01, lambda _: True)
        while looks[0] < 5:
            await asyncio.sleep(0.001)
        end()

    looks = [0, 0, 0]
    with RemoteVectorEnv(showing.address, num_envs=1, render_mode="rgb_array") as envs:
        envs.reset(seed=1)
        on_loop(showing, look(next(iter(showing._sessions.by_id))))
    assert looks == [5, 1, 1]


def test_kept_pictures_are_bounded(showing: RemoteEnvironmentServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "KEPT_BYTES", 10)

    async def play(stage: Stage) -> None:
        for width in range(16, 24):
            asked = stage.ask(width)
            while not stage.worker.waiting:
                await asyncio.sleep(0.001)
            stage.worker.answer(MADE._replace(nanoseconds=0))
            await asked
        assert stage.maker._made_bytes == 9
        assert len(stage.maker._made) == 3

    staged(showing, play)
