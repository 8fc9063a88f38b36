"""Fetch the peers that the benchmarks run beside us; each that cannot be had is named, with why.

Debian packages if we are root, Python packages each in a virtual environment of its own under
``.bench/`` (ignored by git). Run it again at any time: what is there stays.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import Missing, run_quietly, say
from link import compile_link, why_not
from tools import certificate, environment, make_tools_folder

# The command that must be there, and the Debian package that brings it.
DEBIAN = {
    "srt-file-transmit": "srt-tools",
    "uftp": "uftp",
    "openssl": "openssl",
    "ip": "iproute2",
    "ngircd": "ngircd",
}
# Debian starts these when it installs them; the benchmarks start their own.
SERVICES = {"ngircd"}
# Where Debian puts what only root is expected to run.
os.environ["PATH"] += os.pathsep + "/usr/sbin"


def newest_python(minor: int) -> str | None:
    """A Python 3 of at least that minor version: ours, or one on the path or under pyenv."""
    if sys.version_info >= (3, minor):
        return sys.executable
    found = [
        *(shutil.which(f"python3.{other}") for other in range(minor, minor + 5)),
        *sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python"))),
    ]
    for path in filter(None, found):
        asked = [path, "-c", f"import sys; sys.exit(sys.version_info < (3, {minor}))"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return path
    return None


def install_python_package(name: str, minor: int) -> str:
    """Install the package unless it is there; answer its version or why not."""
    python = environment(name)
    if not python.exists():
        base = newest_python(minor)
        if base is None:
            return f"not here: no Python 3.{minor} or newer"
        make_tools_folder()
        try:
            run_quietly(base, "-m", "venv", python.parent.parent)
            run_quietly(python, "-m", "pip", "install", "-q", name)
        except RuntimeError as error:
            shutil.rmtree(python.parent.parent, ignore_errors=True)
            return f"not here: {str(error).splitlines()[-1]}"
    version = f"import importlib.metadata as m, sys; print(m.version({name!r}), sys.version[:6])"
    return " on Python ".join(run_quietly(python, "-c", version).split())


def install_debian_packages() -> None:
    """Install what is missing, if we may."""
    wanted = [package for command, package in DEBIAN.items() if not shutil.which(command)]
    if not wanted or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    say(f"apt-get install {' '.join(wanted)}")
    for words in (["update", "-q"], *(["install", "-qy", package] for package in wanted)):
        subprocess.run(
            ["apt-get", *words],
            check=False,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    for service in SERVICES & set(wanted):
        if shutil.which("systemctl"):
            subprocess.run(["systemctl", "disable", "--now", "-q", service], check=False)


def main() -> None:
    """Install all that can be had and say what is here."""
    install_debian_packages()
    for command, package in DEBIAN.items():
        print(f"{command}: {shutil.which(command) or f'not here (Debian package {package})'}")
    for name, minor in (("aioquic", 10), ("aiopquic", 12)):
        print(f"{name}: {install_python_package(name, minor)}")
    try:
        certificate()
    except (Missing, RuntimeError) as error:
        print(f"certificate: {error}")
    print(f"emulated link: {why_not() or compile_link()}")


if __name__ == "__main__":
    main()
