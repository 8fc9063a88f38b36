"""The tests of chatbox.

Importing the package chooses how Hypothesis looks for counterexamples, so that pytest and trial do
the same. With CI set in the environment the search is the same in every run; elsewhere it is
random, and a failure prints the line that reproduces it. Deadlines are off: a busy machine is no
reason for a test to fail.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "chatbox",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("chatbox")
