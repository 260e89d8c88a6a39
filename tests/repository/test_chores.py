from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import chore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a repository with the files that hold a version."""
    (tmp_path / "remote_gym").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.2.3"\n')
    (tmp_path / "remote_gym" / "version.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- News.\n")
    for command in ("init -q", "config user.name T", "config user.email t@example.org", "add -A", "commit -qm first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("current", "mode", "expected"),
    [
        ("1.2.3", "patch", "1.2.4"),
        ("1.2.3", "minor", "1.3.0"),
        ("1.2.3", "major", "2.0.0"),
        ("1.0.0.dev0", "patch", "1.0.0"),
        ("1.0.0rc1", "patch", "1.0.0"),
        ("1.2.3", "4.0.0rc1", "4.0.0rc1"),
    ],
)
def test_following_version(current: str, mode: str, expected: str) -> None:
    assert chore("bump").following(current, mode) == expected


def test_bump_writes_commits_and_tags(checkout: Path) -> None:
    bump = chore("bump")
    assert bump.main(["minor"], checkout) == 0
    assert bump.current_version(checkout) == "1.3.0"
    assert re.search(r"^## 1\.3\.0 \(\d{4}-\d\d-\d\d\)$", (checkout / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert bump.git(checkout, "status", "--porcelain") == ""
    assert bump.git(checkout, "describe") == "v1.3.0"


def test_bump_refuses(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bump = chore("bump")
    assert bump.main(["sideways"], checkout) == 1
    (checkout / "new.txt").touch()
    assert bump.main([], checkout) == 1
    (checkout / "new.txt").unlink()
    bump.git(checkout, "tag", "v1.2.4")
    assert bump.main([], checkout) == 1
    errors = capsys.readouterr().err
    assert all(text in errors for text in ("neither major", "new.txt", "the tag v1.2.4 exists"))
    assert bump.current_version(checkout) == "1.2.3"


def test_this_checkout_has_one_version() -> None:
    import remote_gym

    assert chore("bump").current_version(ROOT) == remote_gym.__version__


def test_clean(tmp_path: Path) -> None:
    for name in ("build/x", "remote_gym/__pycache__/y", ".venv/__pycache__/z", ".ruff_cache/c", "kept/k"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    clean = chore("clean").clean
    assert {path.name for path in clean(tmp_path)} == {"build", "__pycache__", ".ruff_cache"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [".venv", "kept", "remote_gym"]
    assert [path.name for path in clean(tmp_path, everything=True)] == [".venv"]


def test_update_hooks(tmp_path: Path) -> None:
    (tmp_path / ".pre-commit-config.yaml").write_text("[ruff==0.1.0]\n[pre-commit-hooks==6.0.0]\n")
    (tmp_path / "tox.ini").write_text("deps = ruff==0.1.0\n")
    changes = chore("update_hooks").update(tmp_path, {"ruff": "9.9", "pre-commit-hooks": "6.0.0"}.__getitem__)
    assert len(changes) == 2
    assert (tmp_path / "tox.ini").read_text() == "deps = ruff==9.9\n"
    assert (tmp_path / ".pre-commit-config.yaml").read_text() == "[ruff==9.9]\n[pre-commit-hooks==6.0.0]\n"


PAGE = '<html><body data-theme="auto"><article><h1 id="top">A page</h1>{}</article><script>{}</script></body></html>'
THEME = "document.body.dataset.theme = localStorage.getItem('theme')"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder of pages, one of which is as it should be."""
    (tmp_path / "good.html").write_text(
        PAGE.format('<a href="#top">up</a> <a href="https://example.org">out</a>', THEME)
    )
    return tmp_path


def test_dead_links_are_found(site: Path) -> None:
    links = '<a href="good.html#top">good</a> <a href="good.html#no">no heading</a> <img src="no.png">'
    (site / "bad.html").write_text(PAGE.format(links, THEME))
    assert chore("check_site").dead_links(site) == ["bad.html: good.html#no", "bad.html: no.png"]


@pytest.mark.skipif(not any(map(shutil.which, chore("check_site").BROWSERS)), reason="there is no browser")
def test_pages_that_are_too_wide_are_found(site: Path) -> None:
    wide = '<div style="width: {}px; height: 9px">wide</div>'
    scrolled = '<{0} style="overflow-x: auto">{1}</{0}>'
    table = f"<table><tr><td>{wide.format(500)}</td></tr></table>"
    (site / "wide.html").write_text(PAGE.format(wide.format(1000), THEME))
    (site / "scrolls.html").write_text(
        PAGE.format(scrolled.format("pre", wide.format(500)) + scrolled.format("div", table), THEME)
    )
    (site / "picture.html").write_text(PAGE.format('<img src="good.html">', ""))
    chores = chore("check_site")
    browser = next(filter(None, map(shutil.which, chores.BROWSERS)))
    found = chores.misshapen(site, browser)
    assert [line for line in found if "wide.html" in line] == [
        f"/wide.html at 400, {theme}: is 1008 wide" for theme in ("light", "dark")
    ]
    assert [line for line in found if "scrolls.html" in line] == [
        f"/scrolls.html at 400, {theme}: scrolls sideways: wide" for theme in ("light", "dark")
    ]
    assert len([line for line in found if "does not show" in line]) == 4
    assert len([line for line in found if "is not shown in this theme" in line]) == 4
    assert not [line for line in found if "good.html at" in line]


def test_a_browser_that_ends_is_not_waited_for(site: Path) -> None:
    with pytest.raises(SystemExit, match="false ended with 1 before"):
        chore("check_site").misshapen(site, "false")


def test_ruff_is_the_same_in_hooks_and_tox() -> None:
    pins = {
        pin
        for name in (".pre-commit-config.yaml", "tox.ini")
        for pin in re.findall(r"ruff==\S+?(?=[\],\s])", (ROOT / name).read_text())
    }
    assert len(pins) == 1
