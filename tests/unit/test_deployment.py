"""What runs beside a release while it is evaluated."""

from pathlib import Path
from types import SimpleNamespace

from lab import deployment, evaluation, workspace
from lab.run import Ports
from stack.evals.suite import load_suites


def test_what_runs_beside_the_release_can_be_served_and_is_asked_for_by_its_suites_alone(tmp_path: Path) -> None:
    suites = load_suites()
    placed = workspace.placed(evaluation.release(suites).configs, Ports(20000))
    others = deployment._others({suite.suite.task for suite in suites}, SimpleNamespace(folder=tmp_path))
    for service, _, patch in others.values():
        changed = placed | {service: workspace.merge_patch(placed[service], patch)}
        workspace.validate(changed, changed)
    assert others.keys() == {"without judge", "without moderation", "stopping", "stopping answers"}
    assert deployment._others({"retrieval"}, SimpleNamespace(folder=tmp_path)) == {}
    assert len({port for _, port, _ in others.values()}) == len(others)
    _, strict, _ = others["stopping"]
    assert others["stopping answers"][2]["moderation"]["base_url"].endswith(f":{strict}")
