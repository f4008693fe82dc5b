"""Whole drills and the real engine: slow, and alone on the machine."""

from collections.abc import Iterator

import pytest
from lab_command import lab

from lab.calibrate import machine
from lab.run import CURRENT, current
from lab.runtime import control


def pytest_report_header() -> str:
    return f"machine: {', '.join(f'{name} {value}' for name, value in machine().items())}"


@pytest.fixture(scope="session", autouse=True)
def _no_other_drill() -> Iterator[None]:
    if CURRENT.exists() and control.alive(current()):
        pytest.exit("a drill is running in this checkout: `lab stop` first", returncode=2)
    yield
    lab("stop")
