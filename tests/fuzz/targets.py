"""The table of what is fuzzed: `TARGETS`."""

from __future__ import annotations

from tests.fuzz import chat, files, rdt

TARGETS = {**chat.TARGETS, **files.TARGETS, **rdt.TARGETS}
"""Everything that is fuzzed, by its name."""
