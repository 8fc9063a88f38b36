"""The table of what is fuzzed: `TARGETS`."""

from __future__ import annotations

from tests.fuzz import chat, files, rdt, redis

TARGETS = {**chat.TARGETS, **files.TARGETS, **rdt.TARGETS, **redis.TARGETS}
"""Everything that is fuzzed, by its name."""
