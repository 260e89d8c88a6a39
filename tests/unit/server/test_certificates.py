"""Certificate files that change: what is taken, when, and what is said."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import re
import shutil
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from remote_gym.cli.certificates import write_certificates
from remote_gym.credentials import ServerPem
from remote_gym.server import certificates as module
from remote_gym.server.certificates import Certificates

NAMES = ("server.pem", "server-key.pem", "ca.pem")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three folders of certificates, each of a CA of its own."""
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second", "third")]
    for folder in folders:
        write_certificates(folder)
    return folders


@pytest.fixture
def live(made: list[Path], tmp_path: Path) -> Path:
    return put(made[0], tmp_path)


def put(source: Path, target: Path, *names: str) -> Path:
    for name in names or NAMES:
        shutil.copyfile(source / name, target / name)
        (target / name).chmod(0o600)
    return target


def read(folder: Path) -> Certificates:
    return Certificates([folder / name for name in NAMES])


def settled(certificates: Certificates) -> bool:
    """Look often enough to take what does not change."""
    return any(certificates.look() for _ in range(3))


def test_new_files_are_taken_once_they_stay_as_they_are(
    made: list[Path], live: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "remote_gym.server")
    certificates = read(live)
    told: list[ServerPem] = []
    certificates.on_change = told.append
    before = certificates.current()
    assert not settled(certificates)
    put(made[1], live)
    assert not certificates.look() and certificates.current() is before
    (live / "server.pem").touch()
    assert not certificates.look() and certificates.current() is before
    assert certificates.look()
    assert certificates.current().certificate == (made[1] / "server.pem").read_bytes()
    assert certificates.current().root == (made[1] / "ca.pem").read_bytes()
    assert told == [certificates.current()]
    assert not settled(certificates)
    assert caplog.text.count("new connections get the certificates") == 1


def test_a_link_to_other_files_is_a_change(made: list[Path], tmp_path: Path) -> None:
    """As Kubernetes does it: a folder that is a link, and is another one at once."""
    (tmp_path / "data").symlink_to(made[0])
    certificates = read(tmp_path / "data")
    (tmp_path / "new").symlink_to(made[1])
    os.replace(tmp_path / "new", tmp_path / "data")
    assert settled(certificates)
    assert certificates.current().private_key == (made[1] / "server-key.pem").read_bytes()


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda live, other: put(other, live, "server.pem"), "do not belong together"),
        (lambda live, other: put(other, live, "server-key.pem"), "do not belong together"),
        (lambda live, other: (live / "server-key.pem").unlink(), "does not exist"),
        (lambda live, other: (live / "ca.pem").write_bytes(b""), "it is empty"),
        (lambda live, other: cut(live / "server.pem", 0.5), "cut off"),
        (lambda live, other: cut(live / "ca.pem", 0.5, (other / "ca.pem").read_bytes()), "cut off"),
        (lambda live, other: cut(live / "server-key.pem", 0.5), "damaged"),
    ],
)
def test_what_is_half_written_is_not_taken(
    made: list[Path], live: Path, caplog: pytest.LogCaptureFixture, spoil: object, why: str
) -> None:
    certificates = read(live)
    before = certificates.current()
    settled(certificates)
    spoil(live, made[1])  # type: ignore[operator]
    assert not settled(certificates) and not settled(certificates)
    assert certificates.current() is before
    (record,) = [record for record in caplog.records if "not taken" in record.message]
    assert re.search(why, record.message) and record.levelno == logging.ERROR
    put(made[2], live)
    assert settled(certificates)
    assert certificates.current().certificate == (made[2] / "server.pem").read_bytes()


def cut(path: Path, share: float, first: bytes = b"") -> None:
    data = path.read_bytes()
    path.write_bytes(first + data[: int(len(data) * share)])


def test_what_openssl_does_not_take_is_taken_nowhere(
    made: list[Path], live: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = read(live)
    before = certificates.current()

    def refuse(_pem: ServerPem) -> None:
        raise ssl.SSLError(1, "a key too small")

    certificates.on_change = refuse
    put(made[1], live)
    assert not settled(certificates) and not settled(certificates)
    assert certificates.current() is before
    assert caplog.text.count("a key too small") == 1


def short_lived(folder: Path, days: float, begins_days: float = -400) -> None:
    """Write a pair that ends in `days`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now + datetime.timedelta(days=begins_days))
    builder = builder.not_valid_after(now + datetime.timedelta(days=days, minutes=1))
    pem = serialization.Encoding.PEM
    (folder / "server.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "server-key.pem").write_bytes(key.private_bytes(pem, *form))


@pytest.mark.parametrize(
    "days, begins_days, said",
    [
        (-1, -400, "has expired, on"), (0, -400, "expires in 0 days"), (29, -400, "expires in 29 days"),
        (31, -400, None), (50, 2, "is not valid before"),
    ],
)  # fmt: skip
def test_the_end_of_a_certificate_is_told(
    live: Path, caplog: pytest.LogCaptureFixture, days: float, begins_days: float, said: str | None
) -> None:
    short_lived(live, days, begins_days)
    read(live).warn()
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [] if said is None else said in warned[0] and str(live / "server.pem") in warned[0]
    assert len(warned) == (said is not None)


def test_it_is_told_again_each_day(
    live: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_lived(live, 3)
    certificates = read(live)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    day = module.time.time()

    async def main() -> None:
        watching = asyncio.create_task(certificates.watch())
        await asyncio.sleep(0)
        assert "expires in" in caplog.text
        for _ in range(3):
            caplog.clear()
            await asyncio.sleep(0.02)
            assert "expires in" not in caplog.text
            nonlocal day
            day += module.WARN_SECONDS
            while "expires in" not in caplog.text:
                await asyncio.sleep(0.001)
        watching.cancel()

    monkeypatch.setattr(module.time, "time", lambda: day)
    asyncio.run(asyncio.wait_for(main(), 10))


@pytest.mark.parametrize("mode, warned", [(0o600, False), (0o640, True), (0o604, True), (0o400, False)])
def test_a_key_that_others_can_read_is_told(
    live: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
) -> None:
    (live / "server-key.pem").chmod(mode)
    read(live).warn()
    assert ("can be read by others" in caplog.text) is warned
    assert (f"mode {mode:04o}" in caplog.text) is warned
