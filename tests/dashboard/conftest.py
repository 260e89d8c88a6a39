"""A real browser: Chromium of the system, by playwright. Where either is missing these tests are left out."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSER = os.environ.get("REMOTE_GYM_TEST_BROWSER") or shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = [name for name in ("playwright", "starlette", "uvicorn") if importlib.util.find_spec(name) is None]

FLAGS = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
"""A browser that asks nobody for anything by itself: what it asks for is the page's doing."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = f"{' and '.join(MISSING)} not installed" if MISSING else "there is no Chromium" if not BROWSER else ""
    for item in items:
        if reason and item.path.parent.name == "dashboard" and item.path.parent.parent.name == "tests":
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        yield made
        made.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A new window; whatever its page complains about fails the test."""
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    made = context.new_page()
    made.set_default_timeout(30_000)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    yield made
    context.close()
    assert complaints == []
