"""The tables of docs/grading.md are made from the stored evidence."""

from lab.proof import proof_path
from lab.proof_tables import DOCUMENT, controls, disturbed, spread, with_tables
from lab.scenario import all_ids, find


def test_the_document_shows_the_evidence_as_it_is():
    """Made again by: python -m lab.proof_tables"""
    text = DOCUMENT.read_text()
    assert with_tables(text) == text


def test_each_proof_has_its_place_in_the_document():
    text = DOCUMENT.read_text()
    for name in all_ids():
        for evidence in proof_path(find(name)).parent.glob("*.json"):
            assert f"<!-- {evidence.stem} of {name} -->" in text


def test_a_load_that_left_no_rows_is_told_without_figures():
    """Bug: after hours of loads one without rows was a traceback in place of the tables."""
    lost = {"verdict": "cannot_grade", "reasons": ["no usable rows"], "checks": [], "figures": {}, "conditions": {}}
    of = {"machine": {"cores": 2, "cpu": "a CPU"}}
    assert "| broken | noise | cannot grade | - | no usable rows |" in disturbed(
        of | {"results": [lost | {"configuration": "broken", "disturbance": "noise"}]}
    )
    proof = {
        "seconds": 60,
        "baseline": {"capacity": 1},
        "controls": [{"control": "c", "must": "pass", "attempts": [lost]}],
    }
    assert "| c | pass | cannot_grade | - |" in controls(of | proof)
    assert "* healthy: 1 × cannot grade" in spread(of | {"repeats": {"healthy": [lost]}})
