"""Fixtures for all tests, and the rule that CI skips nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import stamina

from poise.backends.weights import find_weights
from poise.errors import ModelMissing


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With POISE_FORBID_SKIPS set, a skipped test is a failed one."""
    report = yield
    if report.skipped and os.environ.get("POISE_FORBID_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and skipping is forbidden here: {report.longrepr}"
    return report


@pytest.fixture
def quick_retries() -> Iterator[None]:
    """Retries happen at once."""
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


@pytest.fixture(scope="session")
def weights() -> str:
    """Path of the embedded model, or a skip with the reason."""
    pytest.importorskip("xllamacpp", reason="the extra `local` is not installed")
    try:
        return str(find_weights(download=False))
    except ModelMissing as error:
        pytest.skip(str(error))
