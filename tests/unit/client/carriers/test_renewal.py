"""Certificates that are renewed while a client runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from remote_gym import RemoteEnvironment
from remote_gym.cli.certificates import write_certificates
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.grpc import GrpcDialer
from remote_gym.client.carriers.renewal import renewed

NAMES = ("ca.pem", "client.pem", "client-key.pem")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    write_certificates(folder)
    return folder


@pytest.fixture
def address(tmp_path: Path) -> Address:
    write_certificates(tmp_path)
    env = RemoteEnvironment(
        "127.0.0.1:1", client_credentials_paths=[tmp_path / name for name in NAMES]
    )  # dials nothing
    return env._remote.settings.addresses[0]


def test_what_has_not_changed_is_the_same(address: Address, tmp_path: Path) -> None:
    assert renewed(address) is address
    (tmp_path / "client.pem").touch()
    assert renewed(address) is address
    plain = Address("127.0.0.1", 1, None)
    assert renewed(plain) is plain


def test_renewed_files_are_read_again(address: Address, other: Path, tmp_path: Path) -> None:
    for name in NAMES:
        shutil.copy(other / name, tmp_path / name)
    again = renewed(address)
    assert again != address and again.pem is not None
    assert again.pem.certificate == (other / "client.pem").read_bytes()
    assert again.pem.root == (other / "ca.pem").read_bytes()
    assert renewed(again) is again


def test_what_cannot_be_used_leaves_what_there_was(
    address: Address, other: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(other / "client.pem", tmp_path / "client.pem")  # and its key comes later
    assert renewed(address) is address and renewed(address) is address
    assert caplog.text.count("do not belong together") == 1
    (tmp_path / "client.pem").unlink()
    assert renewed(address) is address


def test_a_channel_is_given_up_for_one_with_the_new_ones(address: Address, other: Path, tmp_path: Path) -> None:
    dialer = GrpcDialer(address)
    first = dialer._channel()
    assert dialer._channel() is first
    for name in NAMES:
        shutil.copy(other / name, tmp_path / name)
    second = dialer._channel()
    assert second is not first and first.closed and not second.closed
    dialer.close()
    assert second.closed
