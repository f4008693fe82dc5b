"""`lab drift report`: a verdict in the exit code, and a page that can be looked at."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from drift_handmade import config, log_of, searches
from typer.testing import CliRunner

from lab import cli_drift
from lab.cli import app
from stack.drift.monitor import save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fields = config(reference=400).model_dump(mode="json", by_alias=True)
    (tmp_path / "drift.yaml").write_text(yaml.safe_dump(fields))
    log_of(tmp_path / "searches.jsonl", searches(800, 1))
    return tmp_path


def report(folder: Path, *more: str):
    command = [
        "drift",
        "report",
        f"{folder}/searches.jsonl",
        "--config",
        f"{folder}/drift.yaml",
        "--out",
        f"{folder}/page.html",
    ]
    return CliRunner().invoke(app, [*command, *more])


def test_a_log_of_two_encoders_is_not_judged_by_the_older_part(folder: Path) -> None:
    other = searches(800, 2)
    log_of(folder / "searches.jsonl", replace(other, vectors=other.vectors[:, :8]))
    done = report(folder)
    assert done.exit_code == 3
    assert "800 searches cannot be compared with the 800 others" in done.output


def test_without_drift_all_is_well(folder: Path) -> None:
    done = report(folder, "--json")
    assert (done.exit_code, json.loads(done.stdout)["drifting"]) == (0, [])
    assert "0 of 4 windows drift" in (folder / "page.html").read_text()


def test_at_the_terminal_it_says_what_is_usual_and_where_the_limit_is(folder: Path) -> None:
    """Bug: the numbers that tell a limit below what is usual stood in no text, and the distances on the page alone."""
    found = json.loads(report(folder, "--json").stdout)["detectors"][0]
    assert 0 < found["usual"] < found["limit"]
    done = report(folder)
    assert f"{found['usual']:.4f}" in done.stdout
    assert f"{found['limit']:.4f}" in done.stdout
    assert f"{found['beyond']} of 4" in done.stdout
    assert f"<td>{found['limit']:.4f}</td>" in (folder / "page.html").read_text()


def test_with_drift_the_page_shows_where(folder: Path) -> None:
    log_of(folder / "searches.jsonl", searches(300, 2, 4.0))
    done = report(folder, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["drifting"]) == (1, [6, 7])
    assert max(one["beyond"] for one in told["detectors"]) >= 2
    page = (folder / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert 'class="beyond"' in page
    assert page.count("<style>") == page.count("</style>") == 1, "or nothing of the page is shown"


def test_what_cannot_be_told_is_no_pass(folder: Path) -> None:
    assert report(folder, "--reference", f"{folder}/none.npz").exit_code == 3
    np.save(folder / "array.npy", np.zeros(3))
    of_another_kind = report(folder, "--reference", f"{folder}/array.npy")
    assert of_another_kind.exit_code == 3
    assert "no reference of the drift monitor" in of_another_kind.stderr
    (folder / "file").touch()
    nowhere = report(folder, "--out", f"{folder}/file/page.html")
    assert nowhere.exit_code == 3
    assert f"{folder}/file" in nowhere.stderr.replace("\n", "")
    (folder / "searches.jsonl").write_text("")
    done = report(folder)
    assert done.exit_code == 3
    assert "no search of the collection" in done.stderr


@pytest.fixture
def drill(folder: Path, monkeypatch) -> SimpleNamespace:
    """The last one, with a drift monitor and its reference."""
    save(searches(400, 7), folder / "reference.npz")
    run = SimpleNamespace(applied=folder, info=SimpleNamespace(services=("drift",), scenario="quiet"))
    monkeypatch.setattr(cli_drift, "last_drill", lambda: run)
    return run


def of_the_drill(folder: Path, *more: str):
    return CliRunner().invoke(app, ["drift", "report", "--out", f"{folder}/page.html", "--json", *more])


def test_of_a_drill_it_shows_what_its_monitor_sees(folder: Path, drill) -> None:
    done = of_the_drill(folder)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["windows"] == 8, "all of the log, since the reference is not taken from it"


def test_a_drill_without_a_monitor_has_no_traffic_to_look_at(folder: Path, drill) -> None:
    drill.info.services = ("rag",)
    done = of_the_drill(folder)
    assert done.exit_code == 3
    assert "the drill of quiet has no drift monitor" in done.stderr


def test_a_configuration_can_be_tried_on_the_traffic_of_a_drill(folder: Path, drill) -> None:
    other = folder / "other.yaml"
    other.write_text(yaml.safe_dump(config(window=200).model_dump(mode="json", by_alias=True)))
    done = of_the_drill(folder, "--config", str(other))
    assert json.loads(done.stdout)["windows"] == 4
