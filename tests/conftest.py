"""What holds for every test: `--require-all` accepts no skipped one.

Also the servers that tests of several folders share.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

import services  # noqa: F401 - before gRPC, as wherever the services run
from tests.emulator import EmulatorMissingError, FirestoreEmulator, emulator

OPTION = "--require-all"
EMULATOR_SECONDS = 90

# What an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option that `make test-all` passes, and which store the logic is tested on."""
    parser.addoption(OPTION, action="store_true", help="a test that would be skipped fails")
    parser.addoption(
        "--store",
        choices=("sqlite", "firestore"),
        default="sqlite",
        help="the store under the session service's unit tests",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give what is tested on the emulator the time that starting it may take, too."""
    for item in items:
        if item.get_closest_marker("firestore") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(EMULATOR_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one where nothing may be skipped."""
    report = yield
    if report.skipped and item.config.getoption(OPTION) and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that skips itself."""
    report = yield
    if report.skipped and collector.config.getoption(OPTION):
        _fail(report)
    return report


@pytest.fixture(scope="session")
def firestore_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirestoreEmulator]:
    """One Firestore emulator for every test that leaves other tests' documents alone."""
    try:
        with emulator(tmp_path_factory.mktemp("firestore")) as running:
            yield running
    except EmulatorMissingError as error:
        pytest.skip(str(error))


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{OPTION} accepts no skipped test. {reason}"
