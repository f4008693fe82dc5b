"""The README's catalogue is made from the scenarios."""

from lab.paths import ROOT
from lab.scenario import all_ids, find
from lab.views import entry, markdown_catalogue


def test_the_readme_shows_every_scenario_as_it_is():
    """Made again by: lab list --markdown"""
    assert markdown_catalogue([entry(find(name)) for name in all_ids()]) in (ROOT / "README.md").read_text()
