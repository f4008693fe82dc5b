"""The moderation service does what its OpenAPI document says, whatever it is asked, allowed or forbidden there."""

from pathlib import Path

import pytest
from moderation_process import ModerationProcess, StartModeration
from openapi_document import schemathesis

EXAMPLES = 25  # for each operation and phase


@pytest.fixture(scope="module")
def service(start_moderation: StartModeration) -> ModerationProcess:
    """A service whose items can be leased and decided, and whose limits do not get in one another's way."""
    return start_moderation(tier3={"enabled": False}, limits={"body_bytes": 200_000})


@pytest.mark.parametrize(("phases", "operations"), [("coverage,fuzzing", 10), ("stateful", 5)])
def test_no_server_error_and_no_undocumented_answer(
    service: ModerationProcess, tmp_path: Path, phases: str, operations: int
) -> None:
    how = ["--max-examples", str(EXAMPLES), "--checks", "all", "--phases", phases]
    told = schemathesis(f"{service.url}/openapi.json", tmp_path, *how)
    assert f"Tested: {operations}" in told, told[-2000:]


def test_the_document_tells_every_route_and_every_error(service: ModerationProcess) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/healthz", "/readyz", "/metrics", "/v1/moderations", "/v1/reviews", "/v1/reviews/{id}", "/v1/reviews/lease",
        "/v1/reviews/{id}/decision", "/v1/reviews/{id}/renew", "/v1/reviews/{id}/release",
    }  # fmt: skip
    told = paths["/v1/reviews/{id}/decision"]["post"]["responses"]
    assert set(told) == {"200", "400", "404", "409", "413", "500", "503"}
