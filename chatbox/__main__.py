"""Where the command ``chatbox`` begins, also as ``python -m chatbox``.

To load the program takes a tenth of a second, in which somebody may change their mind.
"""

from __future__ import annotations

import sys
from typing import Final, NoReturn

__all__ = ["main"]

_INTERRUPTED: Final = 130
"""`chatbox.client.exits.Exit.INTERRUPTED`, which may not be loaded yet."""


def main() -> NoReturn:
    """Run the command line. A Ctrl-C that comes too early, or too late, ends it like any other."""
    try:
        from chatbox.client.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
