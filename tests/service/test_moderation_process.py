"""The moderation service as a process: how it starts, what it refuses to start with, how it stops."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gateway_process import ROOT, free_port, listening_socket, merged
from moderation_process import MODERATIONS, StartModeration, moderation_config, spawn_service, write_moderation_config


def run(folder: Path, *arguments: str, port: int | None = None, **changes: Any) -> tuple[int, str]:
    """Exit status and output of a service that ends by itself."""
    config = merged(moderation_config("http://127.0.0.1:1", port or free_port()), changes)
    process = spawn_service(write_moderation_config(folder, config), folder / "log", *arguments)
    return process.wait(timeout=30), (folder / "log").read_text()


def test_check_says_whether_the_configuration_is_valid_and_starts_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "--check") == (0, f"{tmp_path}/moderation.yaml: valid\n")
    assert not (tmp_path / "review.sqlite").exists()


def test_a_configuration_that_cannot_be_is_refused_with_its_problems(tmp_path: Path) -> None:
    status, output = run(tmp_path, band={"low": 0.9, "high": 0.1}, tier3={"treshold": 0.5})
    assert status == 2
    assert "moderation.yaml: band: low 0.9 is above high 0.1" in output
    assert "tier3.treshold: unknown key; did you mean 'threshold'?" in output


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with listening_socket() as listener:
        status, output = run(tmp_path, port=listener.getsockname()[1])
    assert status == 1
    assert "cannot listen on 127.0.0.1" in output


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tier1": {"lists": True, "data": "nowhere"}}, "moderation.yaml: tier1.data: cannot read"),
        ({"review": {"url": "sqlite:////proc/review.sqlite"}}, "moderation.yaml: review.url: cannot use /proc/review"),
    ],
)
def test_what_is_missing_is_told_at_the_start(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    status, output = run(tmp_path, **changes)
    assert status == 2
    assert says in output


def test_a_database_that_is_none_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "review.sqlite").write_bytes(b"this is no database, but somebody's file" * 100)
    status, output = run(tmp_path)
    assert status == 2
    assert "moderation.yaml: review.url: cannot use" in output
    assert (tmp_path / "review.sqlite").read_bytes() == b"this is no database, but somebody's file" * 100


def test_a_restart_finds_the_queue_as_it_was(spawn_moderation: StartModeration, tmp_path: Path) -> None:
    review = {"url": f"sqlite:///{tmp_path}/review.sqlite"}
    first = spawn_moderation(tier3={"enabled": False}, review=review)
    id_ = first.decide("so so")["review_id"]
    (item,) = first.lease()
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(timeout=30) == 0
    second = spawn_moderation(tier3={"enabled": False}, review=review)
    assert second.act(item, "decision", outcome="block").json()["id"] == id_


def test_help_tells_the_routes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stack.moderation", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert MODERATIONS in done.stdout
