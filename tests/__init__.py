"""The tests of chatbox.

Importing the package chooses how Hypothesis looks for counterexamples, so that pytest and trial do
the same. The search is the same in every run: nobody who changes something else is to meet by
chance what was wrong before. `tests.fuzz` looks by chance, for as long as one likes. Deadlines are
off: a busy machine is no reason for a test to fail.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "chatbox",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("chatbox")
