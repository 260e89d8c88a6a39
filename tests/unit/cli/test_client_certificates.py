"""A certificate for one more client: the server of the same CA knows it by its name; what cannot be made is named."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path
from typing import Any

import pytest
from conftest import Certificates, ServerFactory
from cryptography import x509

from remote_gym import MisuseError, RemoteEnvironment
from remote_gym.cli import main
from remote_gym.cli.certificates import write_certificates
from remote_gym.cli.client_certificates import write_client_certificate


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    write_certificates(tmp_path / "ca")
    return tmp_path / "ca"


def test_the_command(serve: ServerFactory, ca: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "--client", "alice", "--ca", str(ca)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == [str(ca / "alice.pem"), str(ca / "alice-key.pem")]
    assert stat.S_IMODE((ca / "alice-key.pem").stat().st_mode) == 0o600
    own = Certificates(ca)
    server = serve(num_workers=1, server_credentials_paths=own.server_mutual)
    paths = ca / "ca.pem", ca / "alice.pem", ca / "alice-key.pem"
    with RemoteEnvironment(server.address, client_credentials_paths=paths) as env:
        env.reset(seed=0)
        assert [session.principal.name for session in server._sessions.by_id.values()] == ["alice"]


def test_a_folder_of_its_own_and_the_ca_stays_as_it_is(ca: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in ca.iterdir()}
    written = write_client_certificate("spiffe://lab/alice", ca, tmp_path / "new", days=7)
    assert written == [tmp_path / "new" / f"spiffe___lab_alice{suffix}.pem" for suffix in ("", "-key")]
    assert {path: path.read_bytes() for path in ca.iterdir()} == before
    certificate = x509.load_pem_x509_certificate(written[0].read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=spiffe://lab/alice"
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(days=6) < left <= datetime.timedelta(days=7)


def test_it_ends_with_its_ca_at_the_latest(tmp_path: Path) -> None:
    write_certificates(tmp_path, days=10)
    certificate, _ = write_client_certificate("alice", tmp_path)
    both = [x509.load_pem_x509_certificate(path.read_bytes()) for path in (certificate, tmp_path / "ca.pem")]
    assert both[0].not_valid_after_utc <= both[1].not_valid_after_utc


def test_renewal(ca: Path) -> None:
    first = write_client_certificate("alice", ca)[0].read_bytes()
    with pytest.raises(MisuseError, match="exists"):
        write_client_certificate("alice", ca)
    assert write_client_certificate("alice", ca, overwrite=True)[0].read_bytes() != first


@pytest.mark.parametrize(
    "name", ["", "anonymous", "uid:0", "a\nb", " a", "x" * 65, "ca", "CA", "server", "ca-key", "alice-key"]
)
def test_names_that_no_client_has(ca: Path, name: str) -> None:
    before = sorted(ca.iterdir())
    with pytest.raises(MisuseError, match="client "):
        write_client_certificate(name, ca, overwrite=True)
    assert sorted(ca.iterdir()) == before


@pytest.mark.parametrize("days", [0, True, "7", 36_501])
def test_days(ca: Path, days: Any) -> None:
    with pytest.raises(MisuseError, match="days="):
        write_client_certificate("alice", ca, days=days)


@pytest.mark.parametrize("spoil", ["ca.pem", "ca-key.pem"])
@pytest.mark.parametrize("how", ["missing", "damaged", "another"])
def test_a_ca_that_cannot_sign(ca: Path, tmp_path: Path, spoil: str, how: str) -> None:
    if how == "missing":
        (ca / spoil).unlink()
    elif how == "damaged":
        (ca / spoil).write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    else:
        write_certificates(tmp_path / "another")
        (ca / spoil).write_bytes((tmp_path / "another" / spoil).read_bytes())
    with pytest.raises(MisuseError, match="ca="):
        write_client_certificate("alice", ca)
    assert not (ca / "alice.pem").exists()
