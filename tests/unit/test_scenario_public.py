"""What the public part of a scenario must not give away."""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from controls import changes

from lab.scenario import Scenario

COMMON = {
    "metric",
    "people",
    "never",
    "below",
    "block",
    "matches",
    "small",
    "large",
    "short",
    "long",
    "tight",
    "order",
    "goes",
    "work",
}


def told_in_public(scenario: Scenario, but: tuple[str, ...] = ()) -> str:
    """The public texts less the list of words to choose from, which holds the truth among others."""
    public: dict[str, Any] = yaml.safe_load((scenario.folder / "public/scenario.yaml").read_text())
    for part in ("diagnosis", *but):
        public.pop(part, None)
    return f"{scenario.brief}\n{yaml.safe_dump(public, width=10_000)}".casefold()


def telling_words(scenario: Scenario) -> set[str]:
    accepted = scenario.truth.diagnosis.accepted
    return {word for pair in accepted for word in pair.mechanism.split("-") if len(word) > 4} - COMMON


def test_the_brief_and_the_checks_do_not_name_the_mechanism(scenario):
    public = told_in_public(scenario, but=("predict",))
    assert [pair.mechanism for pair in scenario.truth.diagnosis.accepted if pair.mechanism in public] == []
    assert [word for word in telling_words(scenario) if re.search(rf"\b{word}", public)] == []


def test_what_is_to_be_predicted_does_not_name_the_mechanism(scenario):
    """Exploit: `lab diagnose` without options lists the predictions, before anything was looked at."""
    asked = " ".join(f"{item.id} {item.ask}" for item in scenario.public.predict).casefold()
    assert [word for word in telling_words(scenario) if word in asked] == []


def test_the_public_part_shows_no_line_of_the_fault_or_of_a_fix(scenario):
    parts: list[Any] = [scenario.layer("fault")]
    parts += [change.patch for _, change in changes(scenario)]
    lines = {line.strip().casefold() for part in parts for text in texts_in(part) for line in text.splitlines()}
    public = told_in_public(scenario)
    assert [line for line in lines if len(line) > 12 and line in public] == []


def texts_in(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict | list):
        for below in tree.values() if isinstance(tree, dict) else tree:
            yield from texts_in(below)
    elif isinstance(tree, str):
        yield tree


def test_names_of_scenario_and_public_files_tell_nothing(scenario):
    names = " ".join([scenario.id, *(p.name for p in (scenario.folder / "public").rglob("*"))])
    accepted = scenario.truth.diagnosis.accepted
    words = {word for pair in accepted for word in (*pair.component.split("-"), *pair.mechanism.split("-"))}
    assert [word for word in words if word in re.split(r"[-. ]", names)] == []


def test_no_file_of_the_public_part_is_linked_to_the_hidden_one(scenario):
    assert not any(path.is_symlink() for path in scenario.folder.rglob("*"))
    assert "hidden" not in told_in_public(scenario)
