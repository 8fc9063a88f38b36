"""The laws of the house, checked from the source text: who may import what, and what must be."""

from __future__ import annotations

import ast
import io
import itertools
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.processes import PATIENCE, ROOT, environment

PACKAGE = ROOT / "chatbox"
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))

ADAPTERS = {
    "tap.py",
    "openfiles.py",
    "tls.py",
    "checkers.py",
    "ahead.py",
    "stopping.py",
    "inherited.py",
    "proxied.py",
    "chat/closing.py",
    "chat/logins.py",
    "chat/server.py",
    "chat/service.py",
    "chat/transport.py",
    "lan/announce.py",
    "lan/beside.py",
    "lan/browse.py",
    "lan/invite.py",
    "log/sqlite.py",
    "log/connect.py",
    "log/fetch.py",
    "log/lookup.py",
    "log/redis.py",
    "rdt/fetch.py",
    "rdt/service.py",
    "rdt/pump.py",
    "rdt/udp.py",
    "client/demo.py",
    "client/main.py",
    "client/connect/connection.py",
    "client/connect/hosts.py",
    "client/connect/reconnector.py",
    "client/connect/secure.py",
    "client/console/console.py",
    "client/console/live.py",
    "client/doctor/examination.py",
    "client/errands/get.py",
    "client/errands/oneshots.py",
    "client/files/desktop.py",
    "client/files/fetcher.py",
    "client/files/progress_line.py",
    "client/gui/app.py",
    "client/gui/hosting.py",
}
"""The only modules that may know the reactor. All others are handed bytes and the time."""

IO = ("twisted.internet", "twisted.application", "twisted.protocols")

MAIN_PROGRAMS = {"client/main.py", "client/demo.py"}
"""What starts a reactor itself, and so may import one at its top."""

WIDGETS = {
    "client/gui/choose.py",
    "client/gui/login.py",
    "client/gui/messages.py",
    "client/gui/room.py",
    "client/gui/theme.py",
    "client/gui/transfers.py",
    "client/gui/widgets.py",
    "client/gui/window.py",
}
"""The only modules that may know Tk, so that all others work where there is none."""

SIBLINGS = {"chat", "lan", "log", "rdt"}

CLIENT = (
    {"exits", "width"},
    {"streams"},
    {"chat", "config"},
    {"actions"},
    {"commands", "words"},
    {"connect"},
    {"files"},
    {"conversation", "terminal"},
    {"console", "errands", "gui"},
    {"arguments", "demo", "doctor"},
    {"main"},
)
"""The client's rooms and what is beside them, from the bottom up. None knows what is in its own row
or above, not even for an import at the last moment or for a type, so there are no circles."""

MAX_CODE_LINES = 400
"""A bound on lines of code; docstrings, comments and empty lines are not counted, for a hard module
should explain itself. What passes it does two things."""


def imports(module: str, *, nested: bool = True) -> Iterator[str]:
    """Yield the dotted names that a module imports, ``from a import b`` as ``a.b`` too."""
    tree = ast.parse((PACKAGE / module).read_text())
    package = ("chatbox", *Path(module).parent.parts)
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*above, *filter(None, [node.module])])
            yield origin
            yield from (f"{origin}.{name.name}" for name in node.names)


def in_client(module: str) -> bool:
    """Say whether `module` is one of the client's."""
    return Path(module).parts[0] == "client"


def under(name: str, *packages: str) -> bool:
    """Say whether a dotted name is one of `packages` or in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def test_there_is_something_to_check() -> None:
    """The source is where these tests look, and holds what they look for."""
    assert "shelf.py" in MODULES
    assert any(under(name, *IO) for name in imports("tap.py"))
    assert "chatbox.errors.RemoteError" in list(imports("shelf.py"))


@pytest.mark.parametrize("module", MODULES)
def test_only_adapters_know_the_reactor(module: str) -> None:
    """The core has no sockets, no timers and no Deferreds."""
    if module not in ADAPTERS:
        assert [name for name in imports(module) if under(name, *IO)] == []


@pytest.mark.parametrize("module", MODULES)
def test_only_widgets_know_tk(module: str) -> None:
    """What decides is not what draws; the window's adapter asks for Tk when it opens one."""
    if module not in WIDGETS:
        found = imports(module, nested=module != "client/gui/app.py")
        assert [name for name in found if under(name, "tkinter")] == []


@pytest.mark.parametrize("module", MODULES)
def test_no_reactor_at_import(module: str) -> None:
    """Importing a module must not choose the reactor; the programs may."""
    if module not in MAIN_PROGRAMS:
        at_top = imports(module, nested=False)
        assert [name for name in at_top if under(name, "twisted.internet.reactor")] == []


@pytest.mark.parametrize("module", MODULES)
def test_siblings_do_not_know_each_other(module: str) -> None:
    """chat, lan, log and rdt meet in tap.py only; chat may see the log's interface."""
    home = Path(module).parts[0]
    if home not in SIBLINGS:
        return
    for other in SIBLINGS - {home}:
        found = [name for name in imports(module) if under(name, f"chatbox.{other}")]
        if (home, other) == ("chat", "log"):
            # The interface and its values, which the package itself has; none of the logs.
            modules = {path.stem for path in (PACKAGE / "log").glob("*.py")} - {"__init__"}
            found = [name for name in found if under(name, *(f"chatbox.log.{m}" for m in modules))]
        assert found == []


@pytest.mark.parametrize("module", MODULES)
def test_what_lies_below_does_not_know_what_lies_above(module: str) -> None:
    """Only options.py, tap.py and the programs look at everything; no client knows the server."""
    server = ("chatbox.options", "chatbox.tap", "chatbox.shelf")
    above = {
        "chat": ("chatbox.client", *server),
        "log": ("chatbox.client", *server),
        "rdt": ("chatbox.client", *server),
        "client": (*server, "chatbox.log", "chatbox.chat.server"),
    }.get(Path(module).parts[0], ())
    assert [name for name in imports(module) if under(name, *above)] == []


def test_every_room_of_the_client_has_its_place() -> None:
    """A room or module that is new is put into the order before anything else."""
    found = {Path(module).parts[1].removesuffix(".py") for module in MODULES if in_client(module)}
    assert sorted(found - {"__init__"}) == sorted(name for row in CLIENT for name in row)


@pytest.mark.parametrize("module", [one for one in MODULES if in_client(one)])
def test_rooms_of_the_client_know_only_those_below(module: str) -> None:
    """What is in a room can be read without the rooms above it."""
    home = Path(module).parts[1].removesuffix(".py")
    below = itertools.takewhile(lambda row: home not in row, CLIENT)
    known = {home}.union(*below)
    parts = [name.split(".") for name in imports(module) if under(name, "chatbox.client")]
    used = {name[2] for name in parts if name[2:]}
    assert used - known == set()


@pytest.mark.parametrize("module", MODULES)
def test_modules_stay_short(module: str) -> None:
    """No module has more code than a reader can keep in mind."""
    text = (PACKAGE / module).read_text()
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in layout and token.string:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    assert len(code) <= MAX_CODE_LINES


@pytest.mark.parametrize("module", MODULES)
def test_public_things_have_docstrings(module: str) -> None:
    """Every module, public class, and public function or method says what it means."""
    tree = ast.parse((PACKAGE / module).read_text())
    missing = [] if ast.get_docstring(tree) else [module]
    missing += [name for name, node in public(tree) if not ast.get_docstring(node)]
    assert missing == []


Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Documented]]:
    """Yield the public classes, functions and methods that must have a docstring.

    A method that overrides Twisted's or Python's (camelCase, or with double underscores) is
    described where it comes from, and a property's setter where the property is.
    """
    for node in tree.body:
        if not isinstance(node, Documented) or node.name.startswith("_"):
            continue
        is_class = isinstance(node, ast.ClassDef)
        from_twisted = prefix and not is_class and node.name != node.name.lower()
        decorators = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
        if not from_twisted and not decorators & {"setter", "overload", "override"}:
            yield f"{prefix}{node.name}", node
        if isinstance(node, ast.ClassDef):
            yield from public(node, f"{prefix}{node.name}.")


def test_no_init_beside_the_plugin() -> None:
    """An __init__.py here would hide Twisted itself, or make it ignore our plugin."""
    folders = [ROOT / "twisted", ROOT / "twisted" / "plugins"]
    assert [folder for folder in folders if (folder / "__init__.py").exists()] == []
    assert [path.name for path in folders[1].glob("*.py")] == ["chatbox_plugin.py"]


def test_every_package_is_packaged() -> None:
    """setup.cfg lists packages one by one; none may be forgotten."""
    listed = (ROOT / "setup.cfg").read_text().split("packages =")[1].split("\n\n")[0].split()
    found = {".".join(path.relative_to(ROOT).parent.parts) for path in PACKAGE.rglob("__init__.py")}
    assert found | {"twisted.plugins"} == {
        name for name in listed if name.startswith(("chatbox", "twisted"))
    }


def test_importing_chooses_no_reactor() -> None:
    """`twist --reactor` chooses one after our options were read, so the choice must be open."""
    program = "import sys, chatbox.tap; sys.exit('twisted.internet.reactor' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, env=environment(), timeout=PATIENCE)


def test_importing_the_plugin_imports_nothing_else() -> None:
    """The plugin file is read at every `twistd --help`, so it must not load chatbox."""
    program = (
        "import sys, runpy; runpy.run_path(sys.argv[1]);"
        "sys.exit(any(name.startswith('chatbox') for name in sys.modules))"
    )
    plugin = ROOT / "twisted" / "plugins" / "chatbox_plugin.py"
    command = [sys.executable, "-c", program, str(plugin)]
    subprocess.run(command, check=True, env=environment(), timeout=PATIENCE)


def test_news_fragments_have_known_types() -> None:
    """A fragment whose name towncrier does not understand would be lost."""
    for path in (ROOT / "newsfragments").iterdir():
        if path.name != "README.rst":
            _topic, kind, suffix = path.name.removeprefix("+").split(".")
            assert kind in {"feature", "bugfix", "removal", "doc"}, path.name
            assert suffix == "rst", path.name
            assert path.read_text().strip(), path.name
