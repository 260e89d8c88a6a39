"""A fixture: a lab of direct connections, with TLS and without."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from direct_lab import Lab


@pytest.fixture(params=["tls", "plaintext"])
def lab(request: pytest.FixtureRequest, certificates: Any) -> Iterator[Lab]:
    with contextlib.closing(Lab(certificates if request.param == "tls" else None)) as made:
        yield made
