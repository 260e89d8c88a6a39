from __future__ import annotations

import pytest

from remote_gym.client.diagnosis.certificate_names import certificate_names, covers


@pytest.mark.parametrize(
    ("host", "kind", "name", "expected"),
    [
        ("gpu-box", "DNS", "GPU-Box.", True),
        ("a.example.org", "DNS", "*.example.org", True),
        ("a.b.example.org", "DNS", "*.example.org", False),
        ("example.org", "DNS", "*.org", False),
        ("10.0.0.7", "DNS", "10.0.0.7", False),
        ("10.0.0.7", "IP Address", "10.0.0.7", True),
        ("::1", "IP Address", "0:0:0:0:0:0:0:1", True),
        ("fe80::1%eth0", "IP Address", "FE80:0:0:0:0:0:0:1", True),
        ("gpu-box", "IP Address", "10.0.0.7", False),
    ],
)
def test_names_match_as_in_grpc(host: str, kind: str, name: str, expected: bool) -> None:
    assert covers(host, kind, name) is expected


def test_common_name_counts_only_alone() -> None:
    subject = ((("organizationName", "o"),), (("commonName", "gpu-box"),))
    assert certificate_names({"subject": subject}) == [("DNS", "gpu-box")]
    names = certificate_names({"subject": subject, "subjectAltName": (("IP Address", "0:0:0:0:0:0:0:1\n"),)})
    assert names == [("IP Address", "::1")]
