"""What a person has settled once: defaults from a file and from the environment.

Each setting is a row of `SETTINGS`: its name in the file, its environment variable, and the
function that reads it, which serves both, so that a setting means the same in both. The command
line goes first, then the environment, then the file, then what is built in.

The file is TOML. Unlike INI it says what is text and where it ends, so that a name may have blanks,
quotes or a percent sign, and its parser names the line of a mistake; people know it from
``pyproject.toml``. Before Python 3.11 it takes a package, ``tomli``, which became Python's own.

A mistake is never skipped: a key that is misspelt would otherwise be a setting that does nothing.
Nothing here looks at the command line, and only `load` reads a file.
"""

from __future__ import annotations

import getpass
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NoReturn

from chatbox.client.exits import Exit, Stop
from chatbox.text import printable, sendable
from chatbox.units import parse_rate

__all__ = [
    "CONFIG_VARIABLE",
    "SETTINGS",
    "Colours",
    "Setting",
    "Settings",
    "default_path",
    "load",
    "login_name",
    "read_environment",
    "read_file",
    "required_host",
    "seconds",
]

SETTLED_HOST: Final = "-"
"""Stands for the host that is settled where another word would be taken for a host."""

CONFIG_VARIABLE: Final = "CHATBOX_CONFIG"
"""The environment variable that names another file."""


class Colours(Enum):
    """Whether names are shown in colours."""

    AUTO = "auto"
    """On a terminal, unless $NO_COLOR is set."""
    ALWAYS = "always"
    NEVER = "never"


def login_name() -> str:
    """What the person at this machine is called: the login name, as text that can be sent."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        name = "guest"
    return sendable(name)


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds where the command line says nothing."""

    host: str | None = None
    """The server to talk to, as HOST on the command line."""
    name: str = field(default_factory=login_name)
    """What to be called in the room."""
    colours: Colours = Colours.AUTO
    downloads: str = ""
    """The folder that files are saved to; empty for the one that the command is given in."""
    limit: int | None = None
    """Bytes per second that all downloads take at most; None for no limit."""
    reconnect: float = 3600.0
    """Seconds to try to come back after the connection was cut; 0 for not at all."""


def _words(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty; leave it out instead")
    return sendable(text)


def _colours(text: str) -> Colours:
    try:
        return Colours(text)
    except ValueError:
        choices = ", ".join(colours.value for colours in Colours)
        raise ValueError(f"{text!r} is none of {choices}") from None


def _folder(text: str) -> str:
    path = os.path.expanduser(text)
    if not os.path.isabs(path):
        raise ValueError(f"{text!r} is no full path; begin it with / or ~/")
    # The slash makes it a folder's name even while there is no folder of that name.
    return os.path.join(path, "")


def seconds(text: str) -> float:
    """Read a time that somebody is willing to wait. Raises ValueError with the reason."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1e9:
        raise ValueError(f"{text!r} is no number of seconds")
    return number


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `read` turns its text into its value, or raises ValueError with the reason."""

    key: str
    meaning: str
    example: str
    """A line of the file that sets it."""
    read: Callable[[str], Any]
    is_number: bool = False
    """Whether the file may have it without quotes."""

    @property
    def variable(self) -> str:
        """The environment variable of the same meaning."""
        return f"CHATBOX_{self.key.upper()}"


_ROWS: Final = (
    Setting("host", "the server to talk to", 'host = "chat.example.org"', _words),
    Setting("name", "your name", 'name = "Alice"', _words),
    Setting("colours", "auto, always or never", 'colours = "never"', _colours),
    Setting("downloads", "the folder to save files to", 'downloads = "~/Downloads"', _folder),
    Setting("limit", "the rate of all downloads", 'limit = "10MB"', parse_rate, is_number=True),
    Setting("reconnect", "seconds to try to come back", "reconnect = 600", seconds, is_number=True),
)
SETTINGS: Final[Mapping[str, Setting]] = {row.key: row for row in _ROWS}
"""Every setting, by its key. Each is a field of `Settings`."""


def default_path() -> str:
    """Where the file is unless somebody says otherwise."""
    from platformdirs import user_config_dir

    return os.path.join(user_config_dir("chatbox"), "config.toml")


def load(path: str | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the file and the environment, which goes before it.

    The file is `path`, else what $CHATBOX_CONFIG names, else `default_path()`, which need not be
    there. Raises Stop with a sentence that says which line or variable is wrong, and how.
    """
    named = path or environment.get(CONFIG_VARIABLE)
    found: dict[str, Any] = {}
    where = named or default_path()
    try:
        with open(where, "rb") as file:
            data = file.read()
    except FileNotFoundError as error:
        if named:
            _refuse(where, f"{error.strerror}.")
    except OSError as error:
        _refuse(where, f"{error.strerror}.")
    else:
        found = read_file(data, where)
    return Settings(**{**found, **read_environment(environment)})


def read_file(data: bytes, where: str) -> dict[str, Any]:
    """Read the contents of a file called `where`: the settings that are in it. Raises Stop."""
    # It takes a while to load, and most people have no file.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _refuse(f"{where}, line {line}", "this is not text in UTF-8.")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        _refuse(
            where,
            f'{error}. A line of this file looks like name = "Alice", with the text in quotes.',
        )
    except (ValueError, RecursionError):  # of a number, or of brackets in brackets
        _refuse(where, "a number in it is too long, or something stands in too many brackets.")
    return {key: _value(key, value, f"{where}{_line(text, key)}") for key, value in found.items()}


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Read the settings that are in the environment; an empty one is none. Raises Stop."""
    found = {}
    for setting in SETTINGS.values():
        text = environment.get(setting.variable)
        if text:
            found[setting.key] = _read(setting, text, f"${setting.variable}")
    return found


_SHOWN: Final = 60
"""Characters of a word that are repeated."""


def required_host(host: str | None, before: str = "") -> str:
    """Insist on a server. Raises Stop with what to do if there is none.

    It would be said `before` a word that stands alone, and so is not taken for it.
    """
    if not host:
        where = f" before {printable(before)}" if 0 < len(before) <= _SHOWN else ""
        raise Stop(
            Exit.USAGE,
            f"Which server? Say HOST{where}, or settle one in ${SETTINGS['host'].variable} or as"
            f" host in {default_path()}.",
        )
    return host


def _value(key: str, value: object, where: str) -> Any:
    """The value of one key of a file."""
    setting = SETTINGS.get(key)
    if setting is None:
        from difflib import get_close_matches  # for mistakes only, which are rare

        near = get_close_matches(key, SETTINGS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(SETTINGS)}."
        _refuse(where, f"there is no setting {key!r}. {hint}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not isinstance(value, str) and not (setting.is_number and is_number):
        _refuse(where, f"{key} must look like this: {setting.example}")
    return _read(setting, str(value), f"{where}: {key}")


def _read(setting: Setting, text: str, where: str) -> Any:
    try:
        return setting.read(text)
    except ValueError as error:
        _refuse(where, f"{str(error).rstrip('.')}.")


def _line(text: str, key: str) -> str:
    """On which line `key` stands, as it is said in a sentence; nothing if that is not plain."""
    spelt = rf"""(?:{re.escape(key)}|"{re.escape(key)}"|'{re.escape(key)}')"""
    places = list(re.finditer(rf"^[ \t]*\[*[ \t]*{spelt}[ \t]*[.=\]]", text, re.MULTILINE))
    if len(places) != 1:
        return ""
    return f", line {text.count(chr(10), 0, places[0].start()) + 1}"


def _refuse(where: str, why: str) -> NoReturn:
    raise Stop(Exit.USAGE, f"{printable(where)}: {printable(why)}")
