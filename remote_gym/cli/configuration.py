"""The user's terminal: what a server is told to be, by flags, variables and ``remote-gym.toml``, in this order."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from remote_gym.cli.options import BY_NAME, CONFIG_VARIABLE, SETTINGS, VARIABLE_PREFIX, Setting, described
from remote_gym.cli.terminal import UsageError, did_you_mean
from remote_gym.distribution import install

DEFAULT_FILE = "remote-gym.toml"
"""Read where it lies in the working directory, unless another file is named."""

SECTION = "serve"
"""The table that holds the settings: the file may have more of them one day."""


@dataclass(frozen=True)
class Origin:
    """Where a value was said, in the words of that place.

    Attributes:
        name: The flag, the variable or the key.
        assigned: The same with its value, which ``{}`` stands for.
    """

    name: str
    assigned: str

    @classmethod
    def of_flag(cls, setting: Setting) -> Origin:
        """Name a flag; also what is said nowhere could be said there."""
        return cls(setting.flag, f"{setting.flag} {{}}")

    @classmethod
    def of_variable(cls, setting: Setting) -> Origin:
        """Name a variable."""
        return cls(setting.variable, f"{setting.variable}={{}}")

    @classmethod
    def of_key(cls, file: str, setting: Setting) -> Origin:
        """Name a key of a file."""
        return cls(f"{setting.name} in {file}", f"{setting.name} = {{}} in {file}")


@dataclass
class Configuration:
    """All that was said about a server.

    Attributes:
        values: By the names of the settings; what was said nowhere is missing.
        origins: Where each was said.
        file: The file that was read; None: there is none.
        notes: What was said and means nothing.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    file: str | None = None
    notes: list[str] = field(default_factory=list)

    def origin(self, setting: Setting) -> Origin:
        """Return where a setting was said, or could have been."""
        return self.origins.get(setting.name) or Origin.of_flag(setting)

    def lines(self) -> Iterator[str]:
        """Yield the text of a file that says the same; comments tell where it was said, and the defaults."""
        yield f"[{SECTION}]"
        for setting in SETTINGS:
            if setting.name not in self.values:
                yield f"# {setting.name}: {described(setting)}"
            elif setting.secret:
                yield f"# {setting.name} is secret  # {self.origin(setting).name}"
            else:
                value, to_text = self.values[setting.name], setting.kind.to_text
                said = _toml(value if to_text is None else to_text(value))
                yield f"{setting.name} = {said}  # {self.origin(setting).name}"

    def _take(self, setting: Setting, value: Any, origin: Origin) -> None:
        self.values[setting.name] = value
        self.origins[setting.name] = origin


def configure(flags: Mapping[str, Any], environment: Mapping[str, str], config: str | None = None) -> Configuration:
    """Return what holds of what flags, variables and a file say.

    Args:
        flags: The value of each flag by the setting's name; None: not given.
        environment: The environment variables. Empty ones count as unset.
        config: The file; None: the one that a variable names, else `DEFAULT_FILE` if there is one here.

    Raises:
        UsageError: A value, a key or the file cannot be read; says where it is and what it could be.
    """
    found = Configuration()
    named = config or environment.get(CONFIG_VARIABLE) or None
    file = named or DEFAULT_FILE
    if named or os.path.lexists(file):
        found.file = file
        if not named:
            _refuse_anothers(file)
        _take_file(found, file)
    _take_variables(found, environment)
    for setting in SETTINGS:
        if (value := flags.get(setting.name)) is not None:
            found._take(setting, value, Origin.of_flag(setting))
    return found


def _take_variables(found: Configuration, environment: Mapping[str, str]) -> None:
    for setting in SETTINGS:
        if text := environment.get(setting.variable):
            origin = Origin.of_variable(setting)
            found._take(setting, _read(setting, setting.kind.from_text, text, origin), origin)
    known = {CONFIG_VARIABLE, *(setting.variable for setting in SETTINGS)}
    for name in sorted(environment):
        if name.startswith(VARIABLE_PREFIX) and name not in known:
            found.notes.append(f"the variable {name} is no setting{did_you_mean(name, known)}")


def _take_file(found: Configuration, file: str) -> None:
    sections = _parse(file)
    for name in sections:
        if name in BY_NAME:
            raise UsageError(f"{file}: {name} belongs under [{SECTION}]")
        if name != SECTION:
            raise UsageError(f"{file}: there is no table [{name}]; the settings of a server stand under [{SECTION}]")
    section = sections.get(SECTION, {})
    if not isinstance(section, dict):
        raise UsageError(f"{file}: {SECTION} must be a table, [{SECTION}]")
    for name, value in section.items():
        setting = BY_NAME.get(name)
        if setting is None:
            raise UsageError(f"{file}: there is no setting {name}{did_you_mean(name.replace('-', '_'), BY_NAME)}")
        origin = Origin.of_key(file, setting)
        read = _read(setting, setting.kind.from_toml, value, origin)
        found._take(setting, _beside(file, setting, read), origin)


def _refuse_anothers(file: str) -> None:
    """Let nobody choose what is hosted, and for whom, by a file in a folder that others may write to as well."""
    with contextlib.suppress(OSError):  # which is said when it is read
        if os.stat(file).st_uid not in (0, os.geteuid()):
            raise UsageError(f"{file} belongs to another user; --config {file} reads it all the same")


def _read(setting: Setting, read: Any, given: Any, origin: Origin) -> Any:
    try:
        return read(given)
    except ValueError as error:
        refusal = setting.kind.refusal(given, error)
        raise UsageError(f"{origin.name} {f'must be {setting.kind.what}' if setting.secret else refusal}") from None


def _parse(file: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise UsageError(f"{file}: Python 3.10 needs tomli to read it: {install('server')}") from None
    try:
        with open(file, encoding="utf-8") as opened:
            return tomllib.loads(opened.read())
    except FileNotFoundError:
        raise UsageError(f"{file}: there is no such file (looked for {os.path.abspath(file)})") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # of TOML, or of UTF-8
        raise UsageError(f"{file}: is no TOML: {error}") from None


def _beside(file: str, setting: Setting, value: Any) -> Any:
    """Return a path as it is from here: one in a file is relative to the file's folder."""
    prefix = "unix:" if str(value).startswith("unix:") else ""
    is_no_path = {
        "entrypoint": not str(value).endswith(".py"), "url": not prefix, "admin_socket": value in ("auto", None),
    }.get(setting.name, False)  # fmt: skip
    if not setting.kind.is_path or is_no_path:
        return value
    return prefix + os.path.join(os.path.dirname(file), value.removeprefix(prefix))


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, dict):
        return json.dumps(json.dumps(value))  # JSON as a text: TOML has no null
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
