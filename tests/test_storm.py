"""A chat in which everything happens that may: see `tests.storm`."""

from __future__ import annotations

import pytest

from tests.storm.client import wander
from tests.storm.world import storm

SEEDS = 60
"""What runs in two seconds. The long run is ``python -m tests.storm 1 100000``."""


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_what_is_promised_holds(seed: int) -> None:
    """Whatever clients do and the log refuses, all of ``docs/protocol.rst`` holds."""
    storm(seed)


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_a_person_sees_it_all(seed: int) -> None:
    """Whatever becomes of connections and servers, nothing is lost or doubled without a word."""
    wander(seed)
