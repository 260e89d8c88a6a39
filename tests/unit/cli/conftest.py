from __future__ import annotations

from collections.abc import Iterator

import pytest
from commands import Commands


@pytest.fixture(scope="package")
def commands() -> Iterator[Commands]:
    """Run ``remote-gym``: ``commands.run(arguments, folder, environment)``."""
    made = Commands()
    yield made
    made.close()
