"""The review queue under kill -9, of the service and of reviewers, while texts come in and are decided.

What the service acknowledged is there afterwards; nothing is decided twice; what a killed reviewer held comes back.
"""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_process import free_port, merged, wait_until
from moderation_process import (
    MODERATIONS,
    REVIEWS,
    ModerationProcess,
    moderation_config,
    spawn_service,
    wait_until_ready,
    write_moderation_config,
)
from reviewer_process import outcome_of

KILLS = 20
SENDERS = 3
REVIEWERS = 2


@dataclass
class Sender:
    """Sends texts one after another, each until it is answered, and keeps what was acknowledged."""

    url: str
    name: str
    acknowledged: dict[str, int] = field(default_factory=dict)
    """request id -> review item"""
    sent_again: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        number = 0
        with httpx.Client(base_url=self.url, timeout=5, trust_env=False) as client:
            while not self.stop.is_set():
                number += 1
                request_id = f"{self.name}-{number}"
                if (result := self._send(client, request_id)) and result["decision"] == "review":
                    self.acknowledged[request_id] = result["review_id"]

    def _send(self, client: httpx.Client, request_id: str) -> dict[str, Any] | None:
        while not self.stop.is_set():
            try:
                body = {"input": f"the words of {request_id}"}
                response = client.post(MODERATIONS, json=body, headers={"x-request-id": request_id})
            except httpx.TransportError:
                self.sent_again += 1
                time.sleep(0.02)
                continue
            assert response.status_code == 200, response.text
            return response.json()["results"][0]
        return None


@dataclass
class Site:
    """A service that is killed and started again, with those who use it."""

    folder: Path
    port: int = field(default_factory=free_port)
    senders: list[Sender] = field(default_factory=list)
    reviewers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        changes = {"tier3": {"enabled": False}, "telemetry": {"log_level": "warning"}}
        config = merged(moderation_config("http://127.0.0.1:1", self.port), changes)
        self.config_file = write_moderation_config(self.folder, config)
        self.decisions = self.folder / "decisions"
        self.url = f"http://127.0.0.1:{self.port}"

    def start_service(self) -> None:
        log_file = self.folder / "log.jsonl"
        self.service = ModerationProcess(spawn_service(self.config_file, log_file), self.url, log_file)
        wait_until_ready(self.service)

    def start_reviewer(self) -> None:
        script = Path(__file__).with_name("reviewer_process.py")
        name = f"reviewer-{len(self.reviewers)}"
        self.reviewers.append(subprocess.Popen([sys.executable, script, self.url, name, self.decisions]))

    def written(self) -> list[list[str]]:
        """The whole lines that reviewers wrote."""
        text = self.decisions.read_text() if self.decisions.exists() else ""
        return [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "review.sqlite")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    try:
        yield site
    finally:
        for sender in site.senders:
            sender.stop.set()
        for process in (*site.reviewers, site.service.process):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(timeout=10)


def test_kill_9_loses_nothing_and_decides_nothing_twice(site: Site) -> None:
    chance = random.Random(7)
    site.start_service()
    site.senders = [Sender(site.url, f"sender-{n}") for n in range(SENDERS)]
    threads = [threading.Thread(target=sender.run, daemon=True) for sender in site.senders]
    for thread in threads:
        thread.start()
    for _ in range(REVIEWERS):
        site.start_reviewer()

    for number in range(KILLS):
        before = sum(len(sender.acknowledged) for sender in site.senders)
        wait_until(lambda b=before: sum(len(s.acknowledged) for s in site.senders) > b, "texts come in again")
        time.sleep(chance.uniform(0.02, 0.4))
        os.kill(site.service.process.pid, signal.SIGKILL)
        site.service.process.wait(timeout=10)
        if number % 2:
            site.reviewers[-1].kill()
            site.reviewers[-1].wait(timeout=10)
            site.start_reviewer()
        site.start_service()

    for sender in site.senders:
        sender.stop.set()
    for thread in threads:
        thread.join(timeout=10)
    wait_until(lambda: undecided(site) == 0, "reviewers decide what is left", seconds=30)
    for reviewer in site.reviewers:
        reviewer.kill()
        reviewer.wait(timeout=10)

    check_what_is_left(site)


def undecided(site: Site) -> int:
    counts = site.service.get(REVIEWS).json()["counts"]
    return counts["open"] + counts["leased"]


def check_what_is_left(site: Site) -> None:
    with site.database() as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = {row[0]: row for row in database.execute("SELECT id, request_id, text, outcome FROM review_items")}
        events = Counter(database.execute("SELECT item_id, kind FROM review_events"))
        deciding_leases = {
            (str(id_), lease)
            for id_, lease in database.execute("SELECT item_id, lease FROM review_events WHERE kind = 'decided'")
        }

    acknowledged = {item: request for sender in site.senders for request, item in sender.acknowledged.items()}
    assert len(acknowledged) > 5 * KILLS, "too little came in to show anything"
    for item, request_id in acknowledged.items():
        assert stored[item][1:3] == (request_id, f"the words of {request_id}"), "an acknowledged text is lost"
    requests = Counter(row[1] for row in stored.values())
    assert requests.most_common(1)[0][1] == 1, "a text that was sent again is a second item"
    assert sum(sender.sent_again for sender in site.senders) > 0, "no request was ever cut off"

    for id_, row in stored.items():
        assert row[3] == outcome_of(id_)
        assert events[id_, "decided"] == 1, f"item {id_} was decided {events[id_, 'decided']} times"
        assert events[id_, "enqueued"] == 1
    told = [(id_, outcome) for what, id_, outcome in site.written() if what == "decided"]
    assert len(told) > KILLS, "too little was decided to show anything"
    assert all(stored[int(id_)][3] == outcome for id_, outcome in told), "an acknowledged decision is lost"

    leased = {(id_, lease) for what, id_, lease in site.written() if what == "leased"}
    came_back = leased - deciding_leases
    assert came_back, "no reviewer was killed while it held an item"
    assert all(stored[int(id_)][3] for id_, _ in came_back)
    assert sum(events[id_, "expired"] for id_ in stored) >= len(came_back)
