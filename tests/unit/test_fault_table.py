"""The known faults of the evaluation gate, and the table of what caught each."""

import re
from dataclasses import replace

from lab import evaluation, fault_table, workspace
from lab.run import Ports
from stack.evals.suite import load_suites


def test_every_fault_names_suites_that_exist_and_is_a_configuration_that_starts() -> None:
    names = {one.name for one in load_suites()}
    shipped = workspace.placed(evaluation.release(load_suites()).configs, Ports(20000))
    for name, fault in fault_table.load_faults().items():
        assert set(fault.catches) <= names, name
        changed = workspace.placed(evaluation.release(load_suites(), patches=[fault.change]).configs, Ports(20000))
        workspace.validate(changed, changed)
        assert changed != shipped, f"{name} changes nothing"


def test_a_fault_is_shown_to_the_suites_that_ask_what_it_changes() -> None:
    suites = load_suites()
    assert fault_table.able_to_see({}, suites) == suites
    assert fault_table.able_to_see({"gateway": {}}, suites) == suites
    blind = {one.name for one in suites} - {one.name for one in fault_table.able_to_see({"rag": {}}, suites)}
    assert blind == {"conversation", "judge-down", "moderation"}
    for name, fault in fault_table.load_faults().items():
        assert set(fault.catches) <= {one.name for one in fault_table.able_to_see(fault.change, suites)}, name


def test_the_table_names_what_caught_each_fault_and_counts_what_stopped_nothing() -> None:
    caught = fault_table.Caught(
        "f", "A fault", ("answers",), "block", {"answers": ("fact", "cited"), "guard": ("x",)}, 1.0, "i"
    )
    healthy = fault_table.Caught("healthy-1", "Nothing is wrong", (), "pass", {}, 1.0, "i")
    lines = fault_table.table([healthy, caught]).splitlines()
    assert lines[2].startswith("| A fault (`f`) | **fact and 1 more** |")
    assert "| x |" in lines[2]
    assert lines[-1] == "Without a fault: 1 runs, 0 blocked."
    assert caught.right
    assert healthy.right
    assert not replace(caught, suites={"guard": ("x",)}).right


def test_the_document_shows_what_was_found_as_it_is() -> None:
    """Made again by: lab eval faults"""
    text = fault_table.DOCUMENT.read_text(encoding="utf-8")
    assert fault_table.with_table(text, fault_table.stored()) == text
    assert fault_table.table(fault_table.stored()) in text


def test_every_fault_was_run_and_a_suite_that_must_blocked_it() -> None:
    """Made again by: lab eval faults"""
    found = {one.fault: one for one in fault_table.stored()}
    faults = fault_table.load_faults()
    assert faults.keys() <= found.keys()
    assert all(re.fullmatch(r"healthy-\d+", name) for name in found.keys() - faults.keys())
    for name, one in found.items():
        assert one.right, name
        assert one.expected == (faults[name].catches if name in faults else ()), name
