"""Systems that have no room for one more thread."""

from __future__ import annotations

import contextlib
import threading
from unittest.mock import patch


def no_threads() -> contextlib.AbstractContextManager[object]:
    """Let no thread start, as Python says it."""
    refused = RuntimeError("can't start new thread")
    return patch.object(threading.Thread, "start", side_effect=refused)
