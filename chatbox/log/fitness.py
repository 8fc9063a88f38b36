"""Whether a Redis is fit to keep a log, by what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator

from chatbox.text import printable

__all__ = ["warnings"]


def warnings(info: bytes) -> Iterator[str]:
    """Yield sentences for the operator about a Redis whose answer to INFO is this."""
    lines = (line.partition(b":") for line in info.split(b"\r\n"))
    facts = {
        name.decode(errors="replace"): printable(value.decode(errors="replace"))
        for name, _, value in lines
    }
    version = facts.get("redis_version", "")
    if version and [int(part) for part in version.split(".")[:2] if part.isdigit()] < [6, 2]:
        yield f"this is Redis {version}; it must be 6.2 or newer"
    if facts.get("aof_enabled") == "0":
        yield (
            "Redis keeps nothing but snapshots (appendonly is off): "
            "if it fails, minutes of messages may be lost"
        )
    policy = facts.get("maxmemory_policy", "noeviction")
    if facts.get("maxmemory", "0") != "0" and policy != "noeviction":
        yield (
            "Redis may forget messages and names when its memory is full "
            f"(maxmemory-policy is {policy}): set noeviction"
        )
