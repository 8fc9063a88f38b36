"""What pytest must know of these tests.

They run in an empty folder, as trial runs them, so that no test depends on where it was started or
leaves anything in the source tree.

When CI runs them, a skipped test is a failed one. A test is skipped where the machine lacks
something, which is fair on a laptop. In CI everything is there or is installed, so a skip there
would only hide that a test never runs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any, TypeVar

import pytest

_IN_CI = bool(os.environ.get("CI"))

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _refuse_skip(report: Report) -> Report:
    """Turn a skip into a failure that gives the reason; leave an expected failure alone."""
    if _IN_CI and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\n(CI is set: a skipped test counts as a failed one)"
    return report


@pytest.fixture(scope="session", autouse=True)
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Generator[None, None, None]:
    """Run all tests in a folder made for them."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("run"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heard() -> None:
    """Have the programs that tests start end at a Ctrl-C, also where a shell runs the tests behind
    an ``&``: it lets them ignore SIGINT, and whoever they start would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at the report of each test."""
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at the report of each module, which may skip itself whole."""
    return _refuse_skip((yield))
