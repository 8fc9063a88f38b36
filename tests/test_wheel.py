"""What is handed out: the wheel and the source archive are whole, and the wheel works by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.processes import PATIENCE, ROOT, Running, script
from tests.test_plugin import OPTIONS, STARTED, talk

NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis",
    "_trial_temp*", "dropin.cache", ".bench", ".fuzz", "state", "twistd.log*", "twistd.pid",
    "*.part",
)  # fmt: skip


def bare_environment() -> dict[str, str]:
    """Return an environment in which nothing points to the source tree, or to somebody's home."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "XDG_STATE_HOME": os.path.abspath("state")}


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Run a command in `folder` and return what it says."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=bare_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def copy_source(folder: Path) -> Path:
    """Copy the source tree into `folder`, so that building leaves nothing in the tree itself."""
    copy = folder / "chatbox"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    return copy


@pytest.fixture(scope="module", name="wheel")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the setuptools that the tests' environment has."""
    source = copy_source(tmp_path_factory.mktemp("source"))
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*command, "--wheel-dir", str(folder), str(source)], folder)
    [wheel] = folder.iterdir()
    return wheel


@pytest.fixture(scope="module", name="installed")
def _installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new virtual environment with the wheel in it.

    To be quick it borrows the installed dependencies: a .pth file names the folder that has them.
    An editable install of chatbox lies in that folder as a .pth file of its own, which Python does
    not read there, so what is imported is the wheel.
    """
    folder = tmp_path_factory.mktemp("installed") / "env"
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    target = Path(run([python, "-c", where], folder).strip())
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (target / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    run([*command, "--no-deps", "--no-index", "--ignore-installed", str(wheel)], folder)
    return folder / "bin"


def test_wheel_holds_what_it_must(wheel: Path) -> None:
    """The plugin, every module, the type marker, the licence and the command are in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        [entry_points] = [name for name in names if name.endswith("entry_points.txt")]
        assert "chatbox = chatbox.__main__:main" in archive.read(entry_points).decode()
        assert "Requires-Python: >=3.10" in archive.read(metadata).decode()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "chatbox").rglob("*.py")}
    assert modules | {"chatbox/py.typed", "twisted/plugins/chatbox_plugin.py"} <= names
    shared = {name.partition(".data/data/share/")[2] for name in names}
    icons = {f"icons/hicolor/{size}x{size}/apps/chatbox.png" for size in (64, 256)}
    icons.add("icons/hicolor/scalable/apps/chatbox.svg")
    assert {"applications/chatbox.desktop", *icons} <= shared
    assert "chatbox/client/gui/desktop/256/chatbox.png" in names
    assert any(name.endswith("LICENSE") for name in names)


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    """No tests, no caches, and no __init__.py that would hide Twisted or our plugin."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "twisted/__init__.py" not in names
    assert "twisted/plugins/__init__.py" not in names
    others = [name for name in names if not name.startswith("chatbox")]
    assert others == ["twisted/plugins/chatbox_plugin.py"]
    assert [name for name in names if name.endswith((".pyc", ".cache"))] == []


def test_source_archive_is_whole(tmp_path: Path) -> None:
    """The source archive has all that the tree has, tests and samples included."""
    source = copy_source(tmp_path)
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    run([sys.executable, "-c", build, tmp_path], source)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert files - names <= {".gitignore"}
    assert {"tests/test_wheel.py", "files/welcome.txt", ".ci/run", "README.rst"} <= names


def test_programs_of_the_wheel_are_found(installed: Path, tmp_path: Path) -> None:
    """In an empty folder, twistd and twist know the chatbox command, and there is a chatbox."""
    folder = tmp_path / "empty"
    folder.mkdir()
    for name in ("twistd", "twist"):
        help_text = run([installed / "python", script(name)[1], "--help"], folder)
        assert "chatbox" in help_text
        assert "A chat room with a file shelf." in help_text
    assert "join" in run([installed / "chatbox", "--help"], folder)


def test_wheel_serves(installed: Path, tmp_path: Path) -> None:
    """A server from the wheel, in a folder with nothing but files to share, talks."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_bytes(b"hello")
    command = [str(installed / "python"), "-u", script("twistd")[1], "--nodaemon", *OPTIONS]
    with Running(command, cwd=tmp_path, env=bare_environment()) as server:
        talk(int(server.read_until(STARTED)[1]))
        server.stop()


def test_wheel_is_what_is_imported(installed: Path, tmp_path: Path) -> None:
    """The tests above would mean nothing if the source tree were found."""
    where = run([installed / "python", "-c", "import chatbox; print(chatbox.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
