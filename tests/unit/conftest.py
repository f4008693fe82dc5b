"""What several unit tests of this folder are given."""

import pytest

from lab.scenario import Scenario, all_ids, find


@pytest.fixture(params=all_ids())
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return find(request.param)
