"""What a keeper tells of servers that report, are silent, and end; without Ray."""

from __future__ import annotations

from typing import Any

import pytest

from remote_gym.certificates import Authority
from remote_gym.errors import MisuseError
from remote_gym.ray.keeper import HANGS_SECONDS, SILENT_SECONDS, Keeper, Plan, Told
from remote_gym.ray.names import Slot, checked, group_of, keeper_of, server_of, slot_of, step_of

A, B, C = Slot(0, 0), Slot(0, 1), Slot(1, 0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(authority: Authority, clock: Clock) -> Keeper:
    return Keeper(Plan("CartPole-v1"), authority, clock)


def told(slot: Slot, **more: Any) -> Told:
    return Told(f"node-{slot.step}-{slot.bundle}", f"127.0.0.{slot.step}:{slot.bundle + 1}", 1, **more)


def report(keeper: Keeper, *slots: Slot) -> None:
    for slot in slots:
        keeper.report(slot, told(slot))


def test_addresses_are_those_of_servers_that_report(keeper: Keeper, clock: Clock) -> None:
    report(keeper, C, A, B)
    assert keeper.addresses() == ["127.0.0.0:1", "127.0.0.0:2", "127.0.0.1:1"]
    keeper.report(B, Told("node", failure="no licence"))
    clock.now += SILENT_SECONDS + 1
    keeper.report(C, told(C)._replace(address="127.0.0.9:9"))
    assert keeper.addresses() == ["127.0.0.9:9"]


def test_status(keeper: Keeper, clock: Clock) -> None:
    report(keeper, A)
    keeper.report(B, Told("node", failure="no licence"))
    assert [one.state for one in keeper.status([A, B, C])] == ["running", "failed", "starting"]
    assert keeper.status([A])[0][:2] == ("node-0-0", "127.0.0.0:1")
    clock.now += SILENT_SECONDS + 1
    assert [one.state for one in keeper.status([A, C])] == ["silent", "starting"]


def test_nobody_is_sent_to_servers_about_to_end(keeper: Keeper) -> None:
    report(keeper, A, B)
    keeper.retire([B])
    report(keeper, B)
    assert keeper.addresses() == [told(A).address]
    assert keeper.status([B])[0].state == "draining"
    keeper.forget([B])
    report(keeper, B)  # another one, in its place
    assert len(keeper.addresses()) == 2


def test_who_hangs_is_told_once(keeper: Keeper, clock: Clock) -> None:
    report(keeper, A, B)
    clock.now += HANGS_SECONDS + 1
    report(keeper, B)
    assert keeper.hanging() == [A]
    assert keeper.hanging() == []
    report(keeper, A)
    clock.now += HANGS_SECONDS + 1
    assert keeper.hanging() == [A, B]


def test_everybody_gets_a_server_of_their_own(keeper: Keeper, clock: Clock) -> None:
    report(keeper, A, B, C)
    own = {who: keeper.addresses_for(who, "elsewhere") for who in "xyz"}
    assert {addresses[0] for addresses in own.values()} == set(keeper.addresses())
    assert all(sorted(addresses) == sorted(keeper.addresses()) for addresses in own.values())
    assert keeper.addresses_for("y", "elsewhere")[0] == own["y"][0]  # again


def test_on_the_own_node_if_there_is_a_choice(keeper: Keeper) -> None:
    report(keeper, A, B, C)
    assert keeper.addresses_for("x", "node-1-0")[0] == told(C).address
    assert keeper.addresses_for("y", "node-1-0")[0] != told(C).address


def test_another_server_for_who_has_lost_theirs(keeper: Keeper, clock: Clock) -> None:
    report(keeper, A, B)
    before = keeper.addresses_for("x", "node-0-0")[0]
    assert before == told(A).address
    clock.now += SILENT_SECONDS + 1
    assert keeper.addresses_for("x", "node-0-0") == []
    report(keeper, B)
    assert keeper.addresses_for("x", "node-0-0") == [told(B).address]


def test_sessions_count(keeper: Keeper) -> None:
    keeper.report(A, told(A, sessions=3))
    keeper.report(B, told(B, sessions=1))
    assert keeper.addresses_for("x", "node-0-0")[0] == told(B).address


def test_each_server_has_a_certificate_of_its_own(keeper: Keeper, authority: Authority) -> None:
    (plan, first), (_, second) = keeper.admit(), keeper.admit()
    assert plan.entrypoint == "CartPole-v1"
    assert first[2] == second[2] == authority.certificate
    assert first[1] != second[1]
    assert keeper.client_credentials() == keeper.client_credentials()


def test_names_lead_back() -> None:
    assert slot_of("f", server_of("f", C)) == C
    assert slot_of("f", keeper_of("f")) is None
    assert slot_of("f", server_of("g", C)) is None
    assert step_of("f", group_of("f", 3)) == 3
    assert step_of("f", group_of("g", 3)) is None
    assert step_of("f", server_of("f", C)) is None


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a b", "a" * 64, None, 3])
def test_what_no_farm_can_be_called(name: Any) -> None:
    with pytest.raises(MisuseError, match="a farm's name"):
        checked(name)
