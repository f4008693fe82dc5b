"""What several unit tests of this folder are given."""

import logging
from collections.abc import Iterator

import pytest

from lab.scenario import Scenario, all_ids, find


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """It is afterwards as it was: else tests that come later do not see what is logged."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(params=all_ids())
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return find(request.param)
