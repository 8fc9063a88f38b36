"""The rule that a skipped test is a failed one in CI, tried on tests that skip in every way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.processes import PATIENCE, ROOT

SKIPPING = """
import unittest
import pytest
from twisted.trial.unittest import SynchronousTestCase

def test_that_skips():
    pytest.skip("no reason")

@pytest.mark.skipif(True, reason="no reason")
def test_that_is_skipped():
    raise AssertionError("it was not skipped")

class SkippingTests(SynchronousTestCase):
    def test_that_skips(self):
        raise unittest.SkipTest("no reason")

    def test_with_attribute(self):
        raise AssertionError("it was not skipped")
    test_with_attribute.skip = "no reason"

@pytest.mark.xfail(reason="known")
def test_that_fails_as_expected():
    raise AssertionError

def test_that_passes():
    pass
"""

SKIPPING_WHOLE = "import pytest; pytest.importorskip('no_such_module_anywhere')"


def summary(folder: Path, **extra: str) -> str:
    """Run pytest in `folder` with our conftest, and return the last line of what it says."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    env = {key: value for key, value in os.environ.items() if key not in {"CI", "PYTEST_ADDOPTS"}}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", folder, folder],
        cwd=folder,
        env={**env, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **extra},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout.strip().splitlines()[-1]


def test_skips_are_skips(tmp_path: Path) -> None:
    """Outside CI a test may be skipped."""
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    (tmp_path / "test_whole.py").write_text(SKIPPING_WHOLE)
    assert "1 passed, 5 skipped, 1 xfailed" in summary(tmp_path)


def test_skips_fail_in_ci(tmp_path: Path) -> None:
    """With CI set each skip is a failure, and a failure that was expected is none."""
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    assert "3 failed, 1 passed, 1 xfailed, 1 error" in summary(tmp_path, CI="true")


def test_skipped_module_fails_in_ci(tmp_path: Path) -> None:
    """A module that skips itself whole counts as well."""
    (tmp_path / "test_whole.py").write_text(SKIPPING_WHOLE)
    assert "1 error" in summary(tmp_path, CI="true")
