"""What the benchmarks build or fetch and keep: programs, virtual environments, a certificate.

All of it is in ``.bench/`` at the top of the repository, or where ``CHATBOX_BENCH`` says.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from common import REPOSITORY, Missing, run_quietly

TOOLS = Path(os.environ.get("CHATBOX_BENCH", REPOSITORY / ".bench"))


def make_tools_folder() -> None:
    """Make the folder so that git does not see it."""
    TOOLS.mkdir(parents=True, exist_ok=True)
    (TOOLS / ".gitignore").write_text("*\n")


def environment(name: str) -> Path:
    """The Python of a peer's own virtual environment (there or not)."""
    return TOOLS / name / "bin" / "python"


def certificate() -> tuple[Path, Path]:
    """A certificate for the name "bench" and its key, made once; raises Missing."""
    chain, key = TOOLS / "cert.pem", TOOLS / "key.pem"
    if not key.exists():
        if not shutil.which("openssl"):
            raise Missing("no openssl command to make a certificate with")
        make_tools_folder()
        run_quietly(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-days",
                "3650",
                "-subj",
                "/CN=bench",
                "-addext",
                "subjectAltName=DNS:bench",
            ),
            *("-keyout", key, "-out", chain),
        )
    return chain, key
