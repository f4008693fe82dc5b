"""`lab` as a person or a script calls it: help, exit codes, JSON, and what is said when something is missing."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from handmade import a_run
from typer.testing import CliRunner

import lab.run
from lab import cli, doctor, drill, drill_view, workspace
from lab.run import Ports, Run, RunError, exclusive, set_current
from lab.runtime import control
from lab.scenario import all_ids, find

SCENARIO = all_ids()[0]
COMMANDS = sorted(command.name for command in cli.app.registered_commands)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for runs: no test touches a real drill."""
    folder = tmp_path / "runs"
    monkeypatch.setattr(lab.run, "RUNS", folder)
    monkeypatch.setattr(doctor, "RUNS", folder)
    for module in (lab.run, drill):
        monkeypatch.setattr(module, "CURRENT", folder / "current")
    monkeypatch.setenv("COLUMNS", "200")
    return folder


@pytest.fixture
def ended(runs: Path) -> Run:
    """A drill that was started once and does not run any more."""
    run = a_run(runs / "20270115-080000-beef", scenario=SCENARIO)
    configs = workspace.placed(workspace.broken(find(SCENARIO)), Ports(20000))
    for folder in (run.applied, run.workspace):
        workspace.write(configs, folder)
    set_current(run)
    return run


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def could_not(command: str, *_: str) -> int:
    """The exit code of a command that cannot do what it should; 1 of `check` is a grade."""
    return 3 if command == "check" else 1


def payload(result: Result) -> dict[str, Any]:
    """The one JSON object on standard output."""
    found = json.loads(result.stdout)
    assert found["schema_version"] == 1
    return found


# ── help ──


def test_the_commands_are_those_of_the_drill():
    assert set(COMMANDS) >= {
        "list", "start", "status", "metrics", "logs", "diff", "apply", "check", "hint", "diagnose", "report", "stop",
        "prove", "calibrate", "doctor",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = call(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: root {name}" in result.stdout
    (command,) = (one for one in cli.app.registered_commands if one.name == name)
    assert command.callback.__doc__.split("\n")[0].split(":")[0] in result.stdout


def test_the_help_tells_the_way_through_a_drill_and_every_exit_code():
    text = " ".join(call("--help").stdout.split())
    for name in ("lab start ID", "lab apply", "lab check", "lab stop"):
        assert name in text
    for said in ("0 done, or the check passed", "1 the check failed", "2 wrong usage", "3 the check cannot be graded"):
        assert said in text
    assert cli.EXIT_CODES == {"pass": 0, "fail": 1, "cannot_grade": 3}


def test_without_a_command_there_is_help_and_exit_code_2():
    result = call()
    assert result.exit_code == 2
    assert "Usage:" in result.output


@pytest.mark.parametrize("arguments", [["strat"], ["list", "--jsn"], ["logs"], ["logs", "llm", "-n", "0"]])
def test_wrong_usage_is_exit_code_2(arguments):
    assert call(*arguments).exit_code == 2


# ── the catalogue ──


def test_list_gives_every_scenario_as_json():
    found = payload(call("list", "--json"))
    assert [item["id"] for item in found["scenarios"]] == all_ids()
    for item in found["scenarios"]:
        kinds = {name: type(value) for name, value in item.items()}
        assert kinds == {
            "id": str, "title": str, "level": int, "covers": list, "services": list, "proved": bool,
            "time_box_minutes": float,
        }  # fmt: skip


def test_list_shows_every_scenario_to_people():
    result = call("list")
    assert result.exit_code == 0
    assert all(f"{name} " in result.stdout for name in all_ids())
    assert "lab start ID" in result.stdout


@pytest.mark.parametrize("name", ["start", "calibrate", "prove"])
def test_an_unknown_scenario_names_the_nearest_and_starts_nothing(name, runs, monkeypatch):
    monkeypatch.setattr(doctor, "require_setup", lambda: None)
    result = call(name, SCENARIO[:-1])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"no scenario '{SCENARIO[:-1]}': did you mean '{SCENARIO}'?" in result.stderr
    assert list(runs.glob("[0-9]*")) == []


def test_prove_wants_one_scenario_or_all():
    for arguments in (["prove"], ["prove", SCENARIO, "--all"]):
        result = call(*arguments)
        assert result.exit_code == 2
        assert "name a scenario, or give --all" in result.stderr


def test_prove_names_the_controls_when_one_is_unknown(monkeypatch):
    """Bug: a slip in --only ended in a traceback."""
    monkeypatch.setattr(doctor, "require_setup", lambda: None)
    monkeypatch.setattr("lab.calibrate.undisturbed", lambda *_: object())
    result = call("prove", SCENARIO, "--only", "helthy")
    assert result.exit_code == 2
    assert "healthy" in result.stderr


def test_prove_takes_controls_or_repeats():
    """Bug: --only was left out of account beside --repeats, and hours of other loads ran."""
    result = call("prove", SCENARIO, "--only", "healthy", "--repeats", "10")
    assert result.exit_code == 2
    assert "--repeats takes healthy, broken and the reference fix" in result.stderr


# ── no drill, or one that is over ──

NEED_A_RUN = ("check", "status", "metrics", "apply", "diff", "hint", "diagnose", "report", "logs llm")


@pytest.mark.parametrize("words", NEED_A_RUN)
def test_without_a_drill_the_error_says_how_to_start_one(words):
    result = call(*words.split())
    assert (result.exit_code, result.stdout) == (could_not(words), "")
    assert "error: no drill has been started: `make drill`, or `lab list` and `lab start ID`" in result.stderr


@pytest.mark.parametrize("arguments", [["check"], ["status"], ["metrics"], ["apply"]])
def test_after_a_drill_the_error_says_why_it_is_over_and_how_to_go_on(arguments, ended):
    ended.event("time_box", seconds=2700)
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (could_not(*arguments), "")
    said = "its time box was over. Start it again with `lab start"
    assert said in " ".join(result.stderr.split())


def test_after_kill_9_of_everything_that_is_what_is_said(ended):
    said = " ".join(call("status").stderr.split())
    assert "its process manager was killed or the machine restarted" in said


def test_status_as_json_says_that_nothing_runs(ended):
    result = call("status", "--json")
    assert result.exit_code == 0
    found = payload(result)
    assert found["running"] is False
    assert ended.info.run_id in found["reason"]


def test_an_error_leaves_nothing_on_standard_output_that_looks_like_json():
    """Bug: a script that pipes --json into a parser must see either an object or nothing."""
    for arguments in (["check", "--json"], ["metrics", "--json"], ["diff", "--json"], ["report", "--json"]):
        result = call(*arguments)
        assert (result.exit_code, result.stdout) == (could_not(*arguments), "")


@pytest.mark.parametrize("drills", [0, 1])
def test_stopping_what_does_not_run_is_fine(drills, request):
    if drills:
        request.getfixturevalue("ended")
    result = call("stop")
    assert result.exit_code == 0
    assert "Nothing" in result.stdout


@pytest.mark.parametrize("arguments", [["check"], ["apply"], ["start"], ["calibrate", SCENARIO], ["prove", SCENARIO]])
def test_two_commands_that_change_a_drill_do_not_run_at_once(arguments):
    with exclusive("test"):
        result = call(*arguments)
    assert (result.exit_code, result.stdout) == (could_not(*arguments), "")
    assert "another lab command is changing this drill" in result.stderr


# ── looking at a drill that is over ──


def test_logs_of_an_unknown_service_name_the_known_ones(ended):
    for name in ("llm", "gateway"):
        (ended.logs / f"{name}.log").write_text("".join(f"{name} {number}\n" for number in range(100)))
    result = call("logs", "lmm")
    assert result.exit_code == 2
    assert "no log of 'lmm': one of llm, gateway, prometheus, load, supervisord" in result.stderr
    assert call("logs", "llm", "-n", "2").stdout == "llm 98\nllm 99\n"


def test_the_difference_is_shown_and_given_as_json(ended):
    same = call("diff")
    assert same.stdout.strip() == "The workspace is what was applied last."
    assert f"The drill of {SCENARIO} ({ended.info.run_id}) has ended; this is about it." in same.stderr
    path = ended.workspace / "llm.yaml"
    path.write_text(path.read_text().replace("seed: 7", "seed: 8"))
    assert "+  seed: 8" in payload(call("diff", "--json"))["diff"]
    assert "+  seed: 8" in call("diff").stdout


def test_the_difference_tells_what_an_interrupted_apply_has_left(ended, monkeypatch):
    """Bug: the workspace was said to be what runs."""
    monkeypatch.setattr(cli.control, "alive", lambda run: True)
    monkeypatch.setattr(cli.drill, "out_of_service", lambda run: ["llm"])
    found = payload(call("diff", "--json"))
    assert (found["diff"], found["out_of_service"]) == ("", ["llm"])
    said = call("diff").stdout
    assert "what was applied" not in said
    assert "llm: not running, or not with the file in applied/ (an apply was interrupted" in said
    assert "`lab apply` mends that" in said


def test_what_cannot_be_graded_is_told_before_any_load_and_with_the_verdict_for_programs(ended, monkeypatch):
    monkeypatch.setattr(cli.control, "alive", lambda run: True)
    monkeypatch.setattr(cli, "ungradable", lambda run, scenario: "llm: not running")
    monkeypatch.setattr(cli, "run_check", lambda *_: pytest.fail("load was sent"))
    told, for_programs = call("check"), call("check", "--json")
    assert (told.exit_code, for_programs.exit_code) == (3, 3)
    assert "cannot grade: llm: not running" in told.stderr
    found = payload(for_programs)
    assert (found["verdict"], found["reasons"], found["folder"]) == ("cannot_grade", ["llm: not running"], None)


def test_a_file_that_was_removed_from_the_workspace_is_named(ended):
    (ended.workspace / "llm.yaml").unlink()
    result = call("diff")
    assert result.exit_code == 2
    assert "llm.yaml" in result.stderr


def test_hints_come_one_by_one_are_counted_and_end(ended):
    hints = find(SCENARIO).hints
    shown = [call("hint").stdout for _ in hints]
    assert all(f"hint {number} of {len(hints)}" in text for number, text in enumerate(shown, start=1))
    assert "5 points are deducted for each hint, 10 so far" in shown[1]
    assert f"all {len(hints)} were given" in call("hint").stdout
    assert len(list(ended.events("hint"))) == len(hints)


def test_no_hint_is_sold_to_who_has_read_the_debrief(ended):
    ended.event("debrief")
    refused = call("hint")
    assert refused.exit_code == 1
    assert "the debrief of this drill was read already" in refused.stderr
    assert list(ended.events("hint")) == []


def test_diagnose_without_an_answer_lists_every_word_with_its_meaning(ended):
    result = call("diagnose")
    offered = find(SCENARIO).public.diagnosis
    assert result.exit_code == 0
    assert all(word in result.stdout for word in (*offered.components, *offered.mechanisms))
    assert "Each further one costs 4 points" in result.stdout
    assert list(ended.events("diagnosis")) == []


WORDS = ["--component", "gateway-prompt", "--mechanism", "prefix-never-matches"]
SILENT = ["--query", "", "--predict", "blocks=none"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--component", "the-moon", "--mechanism", "prefix-reuse-off", *SILENT],
            "'the-moon' is no component of this scenario",
        ),
        (["--component", "gateway-promt", "--mechanism", "prefix-reuse-off", *SILENT], "did you mean 'gateway-prompt'"),
        (["--component", "gateway-prompt"], "--mechanism is missing"),
        (["--mechanism", "prefix-reuse-off"], "--component is missing"),
        (["--query", "up"], "--component is missing"),
        (["--predict", "blocks=34"], "--component is missing"),
        (WORDS, "--query is missing, a third of the points"),
        ([*WORDS, "--query", ""], "--predict blocks=NUMBER is missing"),
        ([*WORDS, "--query", "", "--predict", "blocks=many"], "write ID=NUMBER"),
        ([*WORDS, "--query", "", "--predict", "moons=3"], "this scenario asks for blocks"),
        ([*WORDS, "--query", "", "--predict", "blocks=3", "--predict", "blocks=4"], "blocks was given before"),
        ([*WORDS, *SILENT, "--query", "rate(vllm:prefix"], "nothing is deducted"),
        ([*WORDS, *SILENT, "--query", "up"], "names no metric of the stack"),
    ],
)
def test_what_is_no_answer_is_wrong_usage_and_costs_nothing(ended, arguments, message):
    result = call("diagnose", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(ended.events("diagnosis")) == []


def test_an_answer_tells_what_it_is_worth_what_the_next_costs_and_which_predictions_were_noted(ended):
    first = call("diagnose", *WORDS, "--query", "", "--predict", "blocks=34")
    assert "20 of 30 points for the diagnosis" in first.stdout
    assert "Noted: blocks = 34" in first.stdout
    assert "another one costs 4 points" in first.stdout
    assert "less 4 for earlier answers" in call("diagnose", *WORDS, "--query", "").stdout


def test_a_diagnosis_is_graded_as_json(ended):
    right = find(SCENARIO).truth.diagnosis.accepted[0]
    words = ["--component", right.component, "--mechanism", right.mechanism]
    found = payload(call("diagnose", *words, *SILENT, "--json"))
    assert found["points"] == pytest.approx(2 / 3)
    assert found["reasons"][1] == "There is no query as evidence."


def test_the_report_is_written_where_it_is_said(ended, tmp_path):
    assert payload(call("report", "--json"))["report"] == str(ended.folder / "report.md")
    assert call("report", "--out", str(tmp_path / "mine.md")).exit_code == 0
    assert (tmp_path / "mine.md").read_text().startswith("# ")
    assert call("report", "--out", str(tmp_path / "no/folder.md")).exit_code == 1


@pytest.fixture
def idle(ended: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A drill that is alive, and in which nothing runs."""
    monkeypatch.setattr(control, "alive", lambda run: True)
    monkeypatch.setattr(control, "processes", lambda run: [])
    return ended


def test_no_command_prints_a_key(ended, request):
    (ended.logs / "llm.log").write_text("ready\n")
    keys = json.loads(ended.keys_file.read_text())
    for arguments in (["diff"], ["diagnose"], ["report"], ["hint"], ["logs", "llm"]):
        result = call(*arguments)
        assert result.exit_code == 0, result.output
        assert not any(key in result.output for key in keys.values())
    request.getfixturevalue("idle")
    for arguments in (["status"], ["status", "--json"]):
        result = call(*arguments)
        assert result.exit_code == 0, result.output
        assert str(ended.workspace.name) in result.output
        assert not any(key in result.output for key in keys.values())


def test_status_does_not_call_the_requests_of_a_stopped_load_missed(idle, monkeypatch):
    """Bug: during each check every request of the practice load counted as missed, half a minute after it stopped."""
    monkeypatch.setattr(drill_view, "recent", lambda *_: pytest.fail("asked about a load that does not run"))
    assert payload(call("status", "--json"))["recent"] is None
    assert "No practice load runs" in call("status").stdout


# ── runs that are somebody else's ──


@pytest.fixture
def proof(runs: Path) -> Run:
    """A run that a proof started for itself."""
    run = a_run(runs / "20270115-090000-cafe", scenario=SCENARIO, purpose="proof")
    set_current(run)
    return run


@pytest.mark.parametrize(
    "command",
    [("status",), ("metrics",), ("apply",), ("check",), ("report", "--yes"), ("hint",), ("diff",), ("logs", "llm")],
    ids=" ".join,
)
def test_what_is_for_a_drill_leaves_a_proof_alone(proof, command):
    """Bug: a report of a proof that was running told its solution."""
    result = call(*command)
    assert result.exit_code != 0
    assert "no drill has been started" in result.stderr
    assert not (proof.folder / "report.md").exists()


def test_a_drill_can_be_reported_after_something_else_ran(ended, proof):
    """Bug: any evaluation or proof took the last drill's report away."""
    assert payload(call("report", "--yes", "--json"))["report"] == str(ended.folder / "report.md")
    assert payload(call("status", "--json"))["running"] is False


def test_a_proof_that_runs_is_not_stopped_from_outside(proof):
    """Bug: `lab stop` ended whatever was current, and a control of the proof could not be graded."""
    with exclusive("prove"):
        result = call("stop")
    assert result.exit_code != 0
    assert "cannot stop what runs for a proof: another lab command" in result.stderr
    assert call("stop").exit_code == 0, "what a proof has left behind can be stopped"


def test_a_drill_that_is_not_up_yet_is_not_said_to_be_stopped(ended):
    """Bug: while a start was building indexes, "Nothing was running" was said, and then the drill came up."""
    with exclusive("start a drill"):
        result = call("stop")
    assert result.exit_code == 1
    assert "cannot stop what runs for a drill: another lab command" in result.stderr


def test_a_start_that_is_refused_does_not_hide_the_drill_before_it(ended, monkeypatch):
    """Bug: hint, diagnose and report spoke of a drill that had never come to be."""
    monkeypatch.setattr(drill, "_taken", lambda port: True)
    with pytest.raises(RunError, match="is taken by another program"):
        drill.start(find(SCENARIO), workspace.broken(find(SCENARIO)), purpose="drill", progress=print, port_base=20000)
    assert lab.run.last_drill() == ended


def test_internal_faults_of_a_check_are_no_failed_check(ended, monkeypatch):
    monkeypatch.setattr(control, "alive", lambda run: 1 / 0)
    assert call("check").exit_code == 3
    assert call("metrics").exit_code == 1
