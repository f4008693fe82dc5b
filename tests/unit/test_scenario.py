"""Every shipped scenario: its folder is whole, its changes can be made, its queries can be asked, it tells nothing."""

import re
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

import metric_names
import pytest
import yaml
from controls import changes

from lab import proof, workspace
from lab.diagnosis import load_vocabulary
from lab.paths import DASHBOARDS, SCENARIOS
from lab.promql import read
from lab.run import Ports
from lab.runtime.services import SERVICES
from lab.scenario import Cost, Goodput, Level, Load, Scenario, Work, all_ids, find
from lab.scrape import rule_files
from lab.traffic import DRAIN_SECONDS
from loadtests.metrics import SECONDS as LOADGEN_SECONDS
from loadtests.plan import USERS
from loadtests.questions import SPLITS
from loadtests.shapes import SHAPES
from stack.llm.config import FIRST_TOKEN_SECONDS, REQUEST_SECONDS, TOKEN_SECONDS
from stack.settings import ConfigError, changed_paths, protected_paths

Configs = dict[str, dict[str, Any]]
HARMLESS_CHANGES = 10
PORTS = Ports(20000)


@pytest.fixture(scope="module")
def known_metrics() -> frozenset[str]:
    return metric_names.known()


def problems(configs: Configs, original: Configs) -> list[str]:
    """What `lab apply` would refuse."""
    try:
        workspace.validate(workspace.placed(configs, PORTS), workspace.placed(original, PORTS))
    except ConfigError as problem:
        return problem.problems
    return []


def test_it_asks_for_a_prediction(scenario: Scenario) -> None:
    """Bug: ten points of a hundred were for predictions that one scenario did not ask for."""
    assert {item.id for item in scenario.public.predict} == scenario.truth.predictions.keys() != set()


# ── the folder ──


def test_there_is_a_scenario():
    assert all_ids()


def test_all_parts_of_the_folder_load(scenario):
    assert scenario.truth.diagnosis.accepted
    assert scenario.fixes
    assert len(scenario.cheats) >= 3
    assert len(scenario.hints) >= 2
    assert all(scenario.hints)
    assert scenario.brief.strip()
    assert scenario.debrief.strip()


def test_the_reference_is_the_first_fix(scenario):
    assert next(iter(scenario.fixes)) == "01-reference"


def test_no_file_lies_where_nothing_reads_it(scenario):
    read_parts = (
        rf"public/(scenario\.yaml|brief\.md)|hidden/((site|fault)/({'|'.join(scenario.public.services)})\.yaml|(fixes|cheats)/[a-z0-9-]+\.yaml|"
        r"truth\.yaml|hints\.md|debrief\.md|proof/.+\.json|recordings/(broken|healthy|decoy)\.json\.gz)"
    )
    files = [p.relative_to(scenario.folder).as_posix() for p in scenario.folder.rglob("*") if p.is_file()]
    assert [name for name in files if not re.fullmatch(read_parts, name)] == []


def test_the_digest_is_of_everything_that_decides_and_not_of_what_is_made_from_it(scenario, tmp_path):
    """Exploit: change a threshold after the proof. And neither a proof nor a better hint makes a proof out of date."""
    copy = tmp_path / scenario.id
    for path in (p for p in scenario.folder.rglob("*") if p.is_file()):
        target = copy / path.relative_to(scenario.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for made in ("hidden/proof/proof.json", "hidden/recordings/new.json.gz"):
        (copy / made).parent.mkdir(parents=True, exist_ok=True)
        (copy / made).write_text("{}")
    for text in ("hidden/hints.md", "hidden/debrief.md", "public/brief.md"):
        _append(copy / text)
    assert Scenario(copy).digest == scenario.digest
    _append(copy / "hidden/truth.yaml")
    assert Scenario(copy).digest != scenario.digest


def _append(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n")


def test_an_unknown_scenario_names_the_nearest():
    wrong = all_ids()[0][:-1]
    with pytest.raises(ConfigError, match=f"no scenario '{wrong}': did you mean '{all_ids()[0]}'"):
        find(wrong)


def test_a_folder_whose_id_is_another_is_refused(tmp_path):
    text = (SCENARIOS / all_ids()[0] / "public/scenario.yaml").read_text()
    (tmp_path / "renamed/public").mkdir(parents=True)
    (tmp_path / "renamed/public/scenario.yaml").write_text(text)
    with pytest.raises(ConfigError, match="but the folder is 'renamed'"):
        Scenario(tmp_path / "renamed")


def test_a_cheat_that_fails_on_a_check_that_does_not_exist_is_refused(tmp_path):
    folder = tmp_path / all_ids()[0]
    (folder / "public").mkdir(parents=True)
    (folder / "hidden/cheats").mkdir(parents=True)
    (folder / "public/scenario.yaml").write_text((SCENARIOS / folder.name / "public/scenario.yaml").read_text())
    (folder / "hidden/cheats/trick.yaml").write_text("title: A trick\nfails_on: goodputt\n")
    with pytest.raises(ConfigError, match=r"trick\.yaml: fails_on: no check has the id 'goodputt'"):
        Scenario(folder).cheats  # noqa: B018


# ── configurations ──


def test_the_site_and_its_fault_are_valid_and_touch_nothing_that_belongs_to_the_lab(scenario):
    healthy, broken = workspace.healthy(scenario), workspace.broken(scenario)
    assert problems(healthy, workspace.defaults(scenario.public.services)) == []
    assert problems(broken, healthy) == []
    assert workspace.changed_services(healthy, broken)


def test_every_fix_cheat_and_decoy_can_be_applied_by_a_learner(scenario):
    broken = workspace.broken(scenario)
    refused = {name: problems(workspace.patched(broken, change.patch), broken) for name, change in changes(scenario)}
    assert {name: found for name, found in refused.items() if found} == {}


def test_every_fix_cheat_and_decoy_does_something(scenario):
    """Bug: a patch of a key that already has this value proves the broken configuration a second time."""
    broken = workspace.broken(scenario)
    idle = [n for n, c in changes(scenario) if not c.stop and workspace.patched(broken, c.patch) == broken]
    assert idle == []


def test_no_two_controls_run_the_same_configuration(scenario):
    """Bug: two cheats that come to the same would count as two proofs. (The reference may be the healthy one.)"""
    controls = [control for control in proof.controls(scenario) if control.name != "healthy"]
    found = [(repr(control.configs), control.stop) for control in controls]
    assert len(found) == len(set(found))


def test_checks_that_controls_fail_on_exist(scenario):
    ids = [check.id for check in scenario.public.checks]
    assert len(ids) == len(set(ids))
    assert {cheat.fails_on for cheat in scenario.cheats.values()} <= set(ids)
    assert scenario.truth.broken_fails_on in ids
    assert scenario.truth.rollback_fails_on in {None, *ids}
    assert all(fix.fails_on is None for fix in scenario.fixes.values())


def test_every_check_is_seen_to_fail_by_some_control(scenario):
    """A check that nothing was made to fail proves nothing. Two need no cheat: the broken run itself exceeds the
    cost, and what shortens prompts fails on the probe of the prompt before it does on their tokens."""
    tried = {cheat.fails_on for cheat in scenario.cheats.values()}
    tried |= {scenario.truth.rollback_fails_on, scenario.truth.broken_fails_on}
    checks = [check for check in scenario.public.checks if not isinstance(check, Cost)]
    checks = [check for check in checks if not (isinstance(check, Work) and check.field == "prompt_tokens")]
    assert {check.id for check in checks} - tried == set()


def test_the_site_differs_from_the_defaults_in_many_harmless_ways(scenario):
    """Exploit: diff the workspace against the shipped defaults, and the difference is the answer."""
    changed = {
        f"{name}.{path}"
        for name in scenario.public.services
        for path in changed_paths(workspace.defaults(scenario.public.services)[name], workspace.healthy(scenario)[name])
    }
    fault = {
        f"{name}.{path}"
        for name in scenario.public.services
        for path in changed_paths(workspace.healthy(scenario)[name], workspace.broken(scenario)[name])
    }
    assert len(changed - fault) >= HARMLESS_CHANGES


def test_bounds_speak_of_keys_that_a_learner_may_change(scenario):
    for check in scenario.public.checks:
        if check.kind == "bound":
            service, path = check.key.split(".", 1)
            assert isinstance(workspace._at(workspace.healthy(scenario)[service], path), int | float)
            assert not any(f"{path}.".startswith(f"{kept}.") for kept in protected_paths(SERVICES[service].config))


def test_documents_that_a_prompt_must_hold_are_the_sites(scenario):
    documents = workspace.healthy(scenario)["gateway"].get("documents", {})
    for check in scenario.public.checks:
        if check.kind == "probe":
            assert set(check.documents) <= set(documents)
            assert all(documents[name].strip() for name in check.documents)


# ── load ──


@pytest.mark.parametrize("part", ["practice", "grading"])
def test_the_load_can_be_made_and_its_tenant_may_ask_its_assistant(scenario, part):
    load: Load = getattr(scenario.public.load, part)
    assert load.user in USERS
    assert load.shape in SHAPES
    assert load.split in SPLITS
    tenants = {tenant["name"]: tenant for tenant in workspace.broken(scenario)["gateway"]["tenants"]}
    tenant = tenants[load.tenant]
    assert load.target in {"-", *tenant["assistants"], *tenant.get("collections", [])}


def test_grading_asks_other_questions_at_other_moments_than_practice(scenario):
    """Exploit: answer the practice load from memory."""
    practice, grading = scenario.public.load.practice, scenario.public.load.grading
    assert (practice.split, grading.split) == ("practice", "grading")
    assert practice.seed != grading.seed


def test_a_request_has_the_time_of_its_objectives_before_the_load_is_wound_up(scenario):
    """Bug: what is unfinished at the end of the drain is a miss, so the drain must not be the objective."""
    assert scenario.public.objectives.longest_seconds < DRAIN_SECONDS


def test_every_objective_is_a_boundary_of_the_histograms_that_show_it(scenario):
    """Bug: between two boundaries a histogram guesses, and the graphs disagree with the verdict."""
    wanted = scenario.public.objectives
    gateway = workspace.broken(scenario)["gateway"]["telemetry"]["latency_buckets"]
    shown = {
        wanted.first_token_seconds: (FIRST_TOKEN_SECONDS, LOADGEN_SECONDS, gateway),
        wanted.time_per_output_token_seconds: (TOKEN_SECONDS, LOADGEN_SECONDS),
        wanted.latency_seconds: (REQUEST_SECONDS, LOADGEN_SECONDS, gateway),
        wanted.whole_seconds: (LOADGEN_SECONDS, gateway),
    }
    assert [limit for limit, all_ in shown.items() if limit and not all(limit in buckets for buckets in all_)] == []


def test_histograms_have_increasing_boundaries():
    for buckets in (FIRST_TOKEN_SECONDS, REQUEST_SECONDS, TOKEN_SECONDS, LOADGEN_SECONDS):
        assert all(a < b for a, b in pairwise(buckets))


# ── queries ──


def queries(scenario: Scenario) -> dict[str, str]:
    """All PromQL of the scenario by where it stands."""
    public = scenario.public
    found = {"wait_for": public.wait_for.query}
    found |= {f"watch {item.title}": item.query for item in public.watch}
    asked = [check for check in public.checks if isinstance(check, Cost | Level)]
    found |= {f"check {check.id}": Template(check.query).substitute(window="45s") for check in asked}
    if scenario.truth.diagnosis.query:
        found["truth"] = scenario.truth.diagnosis.query
    return found


def test_every_query_asks_for_metrics_that_exist(scenario, known_metrics):
    asked = queries(scenario)
    unknown = {where: metric_names.unknown(query, known_metrics) for where, query in asked.items()}
    assert {where: names for where, names in unknown.items() if names} == {}
    assert all(read(query).metrics for query in asked.values())


def test_queries_in_the_hints_ask_for_metrics_that_exist(scenario, known_metrics):
    prefixes = "gateway|loadgen|rag|moderation|drift|gate"
    named = set(re.findall(rf"\b(?:vllm:[a-z_]+|(?:{prefixes})_[a-z_]+)", "\n".join(scenario.hints)))
    families = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in known_metrics}
    assert {name for name in named if name not in known_metrics and name not in families} == set()


def test_rules_that_a_site_lacks_are_rules_of_the_dashboards(scenario):
    assert set(scenario.public.without_rules) <= {path.stem for path in rule_files(DASHBOARDS / "rules")}


def test_what_is_restarted_before_a_graded_load_runs(scenario):
    assert set(scenario.public.fresh) <= set(scenario.public.services)


# ── diagnosis ──


def test_the_words_of_the_diagnosis_are_in_the_vocabulary(scenario):
    offered = scenario.public.diagnosis
    assert load_vocabulary().problems(offered.components, offered.mechanisms) == []
    assert len(set(offered.components)) == len(offered.components)
    assert len(set(offered.mechanisms)) == len(offered.mechanisms)


def test_every_accepted_explanation_is_offered_and_one_is_wholly_right(scenario):
    offered, accepted = scenario.public.diagnosis, scenario.truth.diagnosis.accepted
    assert {pair.component for pair in accepted} <= set(offered.components)
    assert {pair.mechanism for pair in accepted} <= set(offered.mechanisms)
    assert 1.0 in {pair.score for pair in accepted}


def test_most_of_the_words_that_are_offered_are_wrong(scenario):
    offered, accepted = scenario.public.diagnosis, scenario.truth.diagnosis.accepted
    assert len(offered.components) >= 3 * len({pair.component for pair in accepted})
    assert len(offered.mechanisms) >= 4 * len({pair.mechanism for pair in accepted})


def test_every_prediction_that_is_asked_for_has_an_answer(scenario):
    assert {item.id for item in scenario.public.predict} == set(scenario.truth.predictions)


# ── the schema ──


def test_a_scenario_has_one_goodput_that_its_objectives_define(scenario):
    assert sum(isinstance(check, Goodput) for check in scenario.public.checks) == 1


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("load.grading.rate", 0, "load.grading.rate"),
        ("checks.0.value", 1.5, "checks.0.value"),
        ("checks.0.kind", "sloo", "checks.0"),
        ("services", ["llm", "database"], "services"),
        ("id", "Has Spaces", "id"),
        ("wait_for.op", "==", "wait_for.op"),
        ("level", 5, "level"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(tmp_path, path, value, said):
    folder = SCENARIOS / all_ids()[0]
    tree = yaml.safe_load((folder / "public/scenario.yaml").read_text())
    place: Any = tree
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        place = place[part]
    place[last] = value
    (tmp_path / folder.name / "public").mkdir(parents=True)
    (tmp_path / folder.name / "public/scenario.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=re.escape(f"scenario.yaml: {said}")):
        Scenario(tmp_path / folder.name)
