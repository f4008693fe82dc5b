"""The configuration of a run: merged, written for people, taken back only where a learner may change it."""

import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from handmade import a_run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab import drill, workspace
from lab.run import Ports, Run, RunError
from lab.runtime import launch
from lab.runtime.services import SERVICES
from stack.settings import ConfigError, protected_paths

Configs = dict[str, dict[str, Any]]
PAIR = ("llm", "gateway")


@pytest.fixture
def configs() -> Configs:
    """The defaults with the addresses of a run."""
    return workspace.placed(workspace.defaults(PAIR), Ports(20000))


def changed(configs: Configs, service: str, path: str, value: Any) -> Configs:
    patch: Any = value
    for part in reversed(path.split(".")):
        patch = {part: patch}
    return {**configs, service: workspace.merge_patch(configs[service], patch)}


def refused(configs: Configs, original: Configs) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        workspace.validate(configs, original)
    return caught.value.problems


# ── merge patches ──


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_patches_merge_as_in_the_appendix_of_rfc_7396(target, patch, merged):
    assert workspace.merge_patch(target, patch) == merged


def test_merging_changes_neither_side():
    """Bug: a control's patch that leaked into the healthy configuration would break all controls after it."""
    target, patch = {"a": {"b": 1}}, {"a": {"c": {"d": 2}}}
    workspace.merge_patch(target, patch)
    assert (target, patch) == ({"a": {"b": 1}}, {"a": {"c": {"d": 2}}})


@pytest.mark.parametrize(
    ("cores", "encoders", "expected"),
    [
        (3, {"a": {"kind": "onnx"}, "b": {"threads": 1}}, {"a": {"kind": "onnx", "threads": 3}, "b": {"threads": 1}}),
        (128, {"a": {}}, {"a": {"threads": 64}}),  # more are refused
        (3, {"a": 5}, {"a": 5}),
        (3, "all", "all"),
    ],
)
def test_all_cores_encode_unless_it_is_said_otherwise(monkeypatch, cores, encoders, expected):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    rag = {"encoders": encoders, "limits": {}}
    assert workspace.on_all_cores(rag) == {"encoders": expected, "limits": {}}
    assert rag["encoders"] == encoders


# ── files for people ──

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(texts, values, max_size=4))
@example({"rules": "One\x85two\nthree\u2028four"})
def test_what_is_written_is_read_back_as_it_was(config):
    """Bug: a template whose line breaks or quotes change on the way is another prompt."""
    with tempfile.TemporaryDirectory() as folder:
        workspace.write({"llm": config, "gateway": {}}, Path(folder))
        assert workspace.read(Path(folder), PAIR) == {"llm": config, "gateway": {}}


def test_the_shipped_configuration_survives_the_way_through_its_files(configs, tmp_path):
    workspace.write(configs, tmp_path)
    assert workspace.read(tmp_path, PAIR) == configs
    workspace.validate(workspace.read(tmp_path, PAIR), configs)


def test_files_are_written_as_a_person_would():
    config = {
        "zebra": 1,
        "buckets": [0.1, 0.2],
        "messages": [{"role": "system", "content": "Ticket {{ id }}.\n{{ rules }}"}],
        "name": "Café",
    }
    assert workspace._as_yaml(config) == (
        "zebra: 1\n"
        "buckets: [0.1, 0.2]\n"
        "messages:\n"
        "  - role: system\n"
        "    content: |-\n"
        "      Ticket {{ id }}.\n"
        "      {{ rules }}\n"
        "name: Café\n"
    )


def test_a_file_that_is_gone_or_broken_is_named(configs, tmp_path):
    workspace.write(configs, tmp_path)
    (tmp_path / "llm.yaml").write_bytes(b"schema: 1 # \xff\n")
    with pytest.raises(ConfigError, match=r"llm.yaml: byte 12 is not valid UTF-8"):
        workspace.read(tmp_path, PAIR)
    (tmp_path / "llm.yaml").unlink()
    with pytest.raises(ConfigError, match=r"llm.yaml: missing"):
        workspace.read(tmp_path, PAIR)


def test_a_file_that_is_no_yaml_is_named_with_its_line(configs, tmp_path):
    workspace.write(configs, tmp_path)
    (tmp_path / "gateway.yaml").write_text("schema: 1\nlisten: {host\n")
    with pytest.raises(ConfigError, match=r"gateway.yaml: line \d"):
        workspace.read(tmp_path, PAIR)


def test_the_difference_shows_both_files_and_only_what_changed(configs, tmp_path):
    old, new = tmp_path / "applied", tmp_path / "workspace"
    for folder, seqs in ((old, 16), (new, 32)):
        folder.mkdir()
        workspace.write(changed(configs, "llm", "engine.max_num_seqs", seqs), folder)
    lines = workspace.diff(old, new, PAIR).splitlines()
    assert lines[:2] == ["--- applied/llm.yaml", "+++ workspace/llm.yaml"]
    assert [line for line in lines[2:] if line[0] in "+-"] == ["-  max_num_seqs: 16", "+  max_num_seqs: 32"]
    assert workspace.diff(old, old, PAIR) == ""


def test_another_layout_is_no_difference(configs, tmp_path):
    """Bug: after `lab apply` of a file with a comment in it, `lab status` said that the workspace differs."""
    workspace.write(configs, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    for name, config in configs.items():
        (other / f"{name}.yaml").write_text(f"# mine\n{json.dumps(config)}\n")
    assert workspace.diff(tmp_path, other, PAIR) == ""


def test_a_file_that_is_no_yaml_is_shown_as_it_is(configs, tmp_path):
    workspace.write(configs, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    workspace.write(configs, other)
    (other / "llm.yaml").write_text("engine: [\n")
    assert "+engine: [" in workspace.diff(tmp_path, other, PAIR).splitlines()


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_the_difference_to_a_file_that_cannot_be_read_is_a_clear_error(configs, tmp_path, content):
    """Bug: `lab diff`, `lab apply` and `lab status` ended in a traceback when a file of the workspace was gone."""
    workspace.write(configs, tmp_path)
    (tmp_path / "llm.yaml").unlink()
    if content is not None:
        (tmp_path / "llm.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"llm\.yaml"):
        workspace.diff(tmp_path, tmp_path, PAIR)


# ── what a learner may change ──


def test_what_a_run_is_placed_with_is_valid(configs):
    workspace.validate(configs, configs)
    assert configs["llm"]["listen"] == {"host": "127.0.0.1", "port": 20001, "ready_port": 20002}
    assert configs["gateway"]["upstream"]["ready_url"] == "http://127.0.0.1:20002/readyz"


@pytest.mark.parametrize(
    ("service", "path", "value"),
    [
        ("llm", "listen.port", 20009),
        ("llm", "listen.ready_port", 20009),
        ("llm", "model.path", "/somewhere/else"),
        ("llm", "model.served_name", "another"),
        ("llm", "model.canaries", "easy.json"),
        ("gateway", "listen.port", 20009),
        ("gateway", "upstream.base_url", "http://127.0.0.1:20009"),
        ("gateway", "upstream.ready_url", "http://127.0.0.1:20009/readyz"),
        ("gateway", "upstream.model", "another"),
        ("gateway", "retrieval.base_url", "http://127.0.0.1:20009"),
        ("gateway", "moderation.base_url", "http://127.0.0.1:20009"),
        ("gateway", "limits_storage_url", "redis://127.0.0.1:20009"),
        ("gateway", "keys_file", "mine.json"),
        ("gateway", "audit.file", "elsewhere.jsonl"),
        ("gateway", "audit.max_bytes", 1_000_000),
        ("gateway", "telemetry.latency_buckets", [100.0]),
    ],
)
def test_what_belongs_to_the_lab_is_refused_by_name_with_what_it_was(configs, service, path, value):
    """Exploit: a faster model, an engine of one's own, a canary that asks nothing, buckets that hide the slow."""
    problems = refused(changed(configs, service, path, value), configs)
    was = workspace._at(configs[service], path)
    assert problems == [f"{service}.yaml: {path}: belongs to the lab and may not be changed (it was {was})"]


def test_every_protected_part_of_both_services_is_tried_above():
    protected = {name: protected_paths(SERVICES[name].config) for name in PAIR}
    assert protected == {
        "llm": {"listen", "model"},
        "gateway": {
            *("listen", "upstream", "retrieval.base_url", "moderation.base_url", "limits_storage_url"),
            *("keys_file", "audit", "telemetry.latency_buckets"),
        },
    }


@pytest.mark.parametrize(("service", "path"), [("llm", "listen"), ("gateway", "upstream"), ("gateway", "keys_file")])
def test_leaving_a_protected_part_out_is_a_change_of_it(configs, service, path):
    """Exploit: remove the key, and the model's default takes its place."""
    problems = refused(changed(configs, service, path, None), configs)
    assert any(f"{service}.yaml: {path}" in problem and "belongs to the lab" in problem for problem in problems)


def test_an_unknown_key_names_the_nearest_one(configs):
    problems = refused(changed(configs, "llm", "engine.max_num_sequences", 8), configs)
    assert problems == ["llm.yaml: engine.max_num_sequences: unknown key; did you mean 'max_num_seqs'?"]


def test_all_problems_of_both_files_are_told_at_once(configs):
    wrong = changed(configs, "llm", "engine.max_num_seqs", "many")
    wrong = changed(wrong, "gateway", "limits.in_flight", 0)
    wrong = changed(wrong, "gateway", "upstream.model", "another")
    problems = refused(wrong, configs)
    assert [problem.split(": ")[:2] for problem in problems] == [
        ["llm.yaml", "engine.max_num_seqs"],
        ["gateway.yaml", "limits.in_flight"],
        ["gateway.yaml", "upstream.model"],
    ]


def test_a_new_layout_of_the_same_values_changes_no_service(configs, tmp_path):
    """Bug: a comment must not restart the engine, which takes half a minute."""
    workspace.write(configs, tmp_path)
    path = tmp_path / "llm.yaml"
    lines = path.read_text().splitlines()
    path.write_text("# my notes\n" + "\n\n".join(sorted(lines[:1])) + "\n" + "\n".join(lines[1:]) + "\n")
    assert workspace.changed_services(configs, workspace.read(tmp_path, PAIR)) == []
    assert workspace.changed_services(configs, changed(configs, "llm", "engine.seed", 5)) == ["llm"]


def test_going_back_to_the_defaults_is_allowed(configs):
    """Rolling a release back is what a learner may try first: it must be judged by its effect, not refused."""
    site = changed(configs, "gateway", "limits.in_flight", 7)
    site = changed(site, "llm", "engine.max_num_seqs", 3)
    workspace.validate(configs, site)


# ── keys ──


def test_keys_are_for_the_owner_alone_and_the_gateway_gets_their_hashes(tmp_path):
    run = a_run(tmp_path / "run")
    run.keys_file.unlink()
    workspace.make_keys({"acme", "demo"}, run)
    keys = json.loads(run.keys_file.read_text())
    hashed = json.loads((run.folder / "keys/hashed.json").read_text())
    assert hashed == {tenant: hashlib.sha256(key.encode()).hexdigest() for tenant, key in keys.items()}
    assert len(set(keys.values())) == 2
    assert run.keys_file.stat().st_mode & 0o777 == 0o600


# ── into service and back ──


@pytest.fixture
def run(tmp_path: Path, configs: Configs, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose services are names only; an engine that is asked for 13 sequences cannot be served."""
    run = a_run(tmp_path / "run")
    for folder in (run.applied, run.workspace):
        workspace.write(configs, folder)
    (run.folder / "original.json").write_text(json.dumps(configs))
    running = set()

    def start(run: Run, name: str) -> None:
        launch.note(run, name)
        running.add(name)
        sequences = workspace.read(run.applied, PAIR)["llm"]["engine"]["max_num_seqs"]
        run.event("restarted", service=name, sequences=sequences)
        if sequences == 13:
            raise RunError("llm does not run (fatal)")

    for name in PAIR:
        launch.note(run, name)
        running.add(name)
    monkeypatch.setattr(drill.control, "stop", lambda run, name: running.discard(name))
    monkeypatch.setattr(drill.control, "start", start)
    monkeypatch.setattr(drill.control, "running", lambda run: running)
    monkeypatch.setattr(drill, "wait_ready", lambda *_, **__: None)
    return run


def test_a_service_that_says_that_waiting_is_in_vain_is_not_waited_for(tmp_path, monkeypatch):
    told = {"ready": False, "reasons": ["books: index blue does not fit"], "final": True}
    monkeypatch.setattr(drill.httpx, "get", lambda *_, **__: httpx.Response(503, json=told))
    with pytest.raises(RunError, match="gateway cannot become ready: books: index blue does not fit"):
        drill.wait_ready(a_run(tmp_path / "run"), print, ["gateway"])


def test_a_service_that_ended_while_others_were_restarted_is_not_waited_for(tmp_path, monkeypatch):
    """Bug: its end lay before the wait began, went unseen, and was waited for for minutes."""
    run = a_run(tmp_path / "run")
    begun = time.monotonic()
    run.event("process", service="gateway", state="exited", pid=7, exit_status=2)
    monkeypatch.setattr(drill, "unready", lambda url: ("", False))
    monkeypatch.setattr(drill.control, "processes", lambda run: [])
    with pytest.raises(RunError, match="gateway does not run: it ended by itself"):
        drill.wait_ready(run, print, ["gateway"], since=begun)


def edit(run: Run, path: str, value: Any, service: str = "llm") -> None:
    workspace.write(changed(workspace.read(run.workspace, PAIR), service, path, value), run.workspace)


def restarts(run: Run) -> list[tuple[str, int]]:
    return [(event["service"], event["sequences"]) for event in run.events("restarted")]


def test_only_what_changed_is_restarted(run):
    edit(run, "engine.max_num_seqs", 8)
    assert drill.apply(run, print) == ["llm"]
    assert restarts(run) == [("llm", 8)]
    assert drill.apply(run, print) == []


def test_a_refused_configuration_touches_nothing_that_runs(run, configs):
    edit(run, "engine.max_num_seq", 8)
    with pytest.raises(ConfigError, match="max_num_seqs"):
        drill.apply(run, print)
    assert (restarts(run), workspace.read(run.applied, PAIR)) == ([], configs)


def test_a_configuration_that_cannot_be_served_is_taken_back(run, configs):
    """Bug: a learner must not be left with a stack that is down, and no way to see which configuration was good."""
    edit(run, "engine.max_num_seqs", 13)
    with pytest.raises(RunError, match=r"the old one is back in service.\nllm does not run \(fatal\)"):
        drill.apply(run, print)
    assert restarts(run) == [("llm", 13), ("llm", 16)]
    assert workspace.read(run.applied, PAIR) == configs
    assert [event["problem"] for event in run.events("apply_failed")] == ["llm does not run (fatal)"]
    assert workspace.read(run.workspace, PAIR)["llm"]["engine"]["max_num_seqs"] == 13  # what was typed is kept


def interrupt(run: Run, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """An apply with Ctrl-C just before the engine is stopped, before it is started, or while it is waited for."""

    def ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(drill if moment == "wait_ready" else drill.control, moment, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            drill.apply(run, print)


MOMENTS = {"stop": [], "start": ["llm"], "wait_ready": ["llm"]}
"""What is out of service after an apply of a change to the engine that was interrupted then."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_apply_after_an_interrupted_one_brings_the_same_into_service(run, monkeypatch, moment):
    """Bug: the files said new, the process ran with the old ones or not at all, and there was "Nothing to apply"."""
    edit(run, "engine.max_num_seqs", 8)
    interrupt(run, monkeypatch, moment)
    assert drill.out_of_service(run) == MOMENTS[moment]
    assert drill.apply(run, print) == ["llm"]
    assert restarts(run)[-1] == ("llm", 8)
    assert (drill.out_of_service(run), drill.apply(run, print)) == ([], [])


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_change_that_was_taken_back_after_an_interrupted_apply_leaves_nothing_of_it_running(run, monkeypatch, moment):
    """Exploit: apply what is forbidden, interrupt, take it back: it was graded by files that did not run."""
    edit(run, "engine.max_num_seqs", 8)
    interrupt(run, monkeypatch, moment)
    edit(run, "engine.max_num_seqs", 16)
    assert drill.apply(run, print) == MOMENTS[moment]
    assert restarts(run)[-1:] in ([], [("llm", 16)])
    assert drill.out_of_service(run) == []


def test_what_was_interrupted_is_not_what_a_failed_apply_goes_back_to(run, monkeypatch):
    """Bug: Ctrl-C is for a configuration that does not become ready; the next one must not fall back on it."""
    edit(run, "engine.max_num_seqs", 8)
    interrupt(run, monkeypatch, "wait_ready")
    edit(run, "engine.max_num_seqs", 13)
    with pytest.raises(RunError, match="the old one is back in service"):
        drill.apply(run, print)
    assert restarts(run)[-1] == ("llm", 16)
    assert drill.out_of_service(run) == []


def test_a_service_that_ended_is_started_by_an_apply_of_nothing_new(run):
    drill.control.stop(run, "llm")
    assert drill.apply(run, print) == ["llm"]
    assert drill.out_of_service(run) == []


def test_a_file_that_was_edited_in_applied_is_not_in_service_until_it_is_applied(run):
    """Exploit, and what kill -9 of an apply leaves: the exact bounds are read from there."""
    edit(run, "engine.max_num_seqs", 8)
    workspace.write(workspace.read(run.workspace, PAIR), run.applied)
    assert drill.out_of_service(run) == ["llm"]
    assert drill.apply(run, print) == ["llm"]
    assert (restarts(run), drill.out_of_service(run)) == ([("llm", 8)], [])


def test_a_new_layout_of_a_service_that_is_not_restarted_leaves_it_in_service(run):
    """Bug: its file was written anew as well, and then was not the one that it was started with."""
    gateway = workspace.read(run.workspace, PAIR)["gateway"]
    workspace.write({"gateway": dict(reversed(gateway.items()))}, run.workspace)
    edit(run, "engine.max_num_seqs", 8)
    assert drill.apply(run, print) == ["llm"]
    assert drill.out_of_service(run) == []
