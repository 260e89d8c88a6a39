"""Fingerprints as people and OpenSSL write them; who was denied stays so while the file is wrong, or away."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import Certificates
from signing import fingerprint

from remote_gym.errors import MisuseError
from remote_gym.server import watched_files
from remote_gym.server.denied import Denied, read_fingerprints

DIGITS = "0123456789abcdef" * 4
COLONS = ":".join(DIGITS.upper()[at : at + 2] for at in range(0, 64, 2))


@pytest.mark.parametrize(
    "line",
    [DIGITS, DIGITS.upper(), COLONS, f"  {DIGITS}  # alice",
     f"sha256 Fingerprint={COLONS}", f"SHA256 Fingerprint={COLONS}",
     f"sha256:{DIGITS}", f"SHA256:{COLONS}"],
)  # fmt: skip
def test_ways_to_write_one(line: str) -> None:
    assert read_fingerprints(f"# denied\n\n{line}\n") == ({bytes.fromhex(DIGITS)}, [])


@pytest.mark.parametrize("line", ["alice", DIGITS[:-1], DIGITS + "0", f"SHA1 Fingerprint={COLONS[:59]}", f"{DIGITS} x"])
def test_what_is_none(line: str) -> None:
    found, wrong = read_fingerprints(line)
    assert not found
    assert len(wrong) == 1 and wrong[0].startswith("line 1: no SHA-256 fingerprint")


def test_what_openssl_prints(certificates: Certificates) -> None:
    path = certificates.directory / "client.pem"
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert read_fingerprints(printed) == ({bytes.fromhex(fingerprint(path))}, [])


def test_the_file_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "denied"
    path.touch()
    denied, alice, bob = Denied("deny_file", path), bytes.fromhex(DIGITS), b"b" * 32

    def now() -> tuple[bool, bool]:
        denied.refresh()
        return alice in denied, bob in denied

    assert now() == (False, False)
    path.write_text(f"{alice.hex()}\n")
    assert now() == (True, False)
    path.write_text(f"{bob.hex()}\nwhat\n")
    assert now() == (True, True)  # maybe the second line was alice's
    monkeypatch.setattr(watched_files, "MISSING_SECONDS", 0.0)
    path.unlink()
    assert [now(), now()] == [(True, True)] * 2
    path.write_text(f"{bob.hex()}\n")
    assert now() == (False, True)
    assert None not in denied
    path.write_text("what")
    with pytest.raises(MisuseError, match=r"deny_file=.*line 1"):
        Denied("deny_file", path)
