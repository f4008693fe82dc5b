"""What the controls of a scenario change."""

from collections.abc import Iterator

from lab.scenario import Change, Scenario


def changes(scenario: Scenario) -> Iterator[tuple[str, Change]]:
    """Everything that is applied to the broken configuration, by name."""
    yield from ((f"fix {name}", fix) for name, fix in scenario.fixes.items())
    yield from ((f"cheat {name}", cheat) for name, cheat in scenario.cheats.items())
    yield "decoy", scenario.truth.decoy
