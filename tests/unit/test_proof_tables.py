"""The tables of docs/grading.md are made from the stored evidence."""

from lab.proof import proof_path
from lab.proof_tables import DOCUMENT, with_tables
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
