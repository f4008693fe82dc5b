"""How the retrieval service starts, refuses and stops; and a database that goes away."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from gateway_process import ROOT, assert_error, free_port, listening_socket, merged, wait_until
from postgres_process import Postgres, binaries
from rag_process import ALL_BOOKS, DOCUMENTS, StartRag, rag_config


def run(config: dict, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    file = folder / "rag.yaml"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "stack.rag", "--config", str(file), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def config(tmp_path: Path) -> dict:
    return rag_config("http://127.0.0.1:1", free_port(), tmp_path, tmp_path / "vectors")


def test_the_healthy_configuration_passes_the_check() -> None:
    command = [sys.executable, "-m", "stack.rag", "--config", "stack/config/rag.yaml", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "stack/config/rag.yaml: valid\n")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colections": {}}, "colections: unknown key; did you mean 'collections'?"),
        ({"collections": {"books": {"query": {"encoder": "minlm"}}}}, "did you mean 'minilm'?"),
        ({"storage": {"database": "nonsense"}}, "storage.database: not a database URL"),
        ({"answerer": {"tokenizer": "nowhere.json"}}, "nowhere.json: no usable tokenizer"),
        ({"collections": {"books": {"canary": {"file": "nowhere.jsonl"}}}}, "nowhere.jsonl: cannot read"),
        ({"audit": {"file": "nowhere/prompts.jsonl"}}, "nowhere/prompts.jsonl"),
    ],
)
def test_a_configuration_that_cannot_be_served_is_refused_in_words(
    config: dict, tmp_path: Path, change: dict, says: str
) -> None:
    done = run(merged(config, change), tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told(config: dict, tmp_path: Path) -> None:
    with listening_socket() as taken:
        config["listen"]["port"] = taken.getsockname()[1]
        done = run(config, tmp_path)
    assert done.returncode == 1
    assert "set listen.port to a free port" in done.stderr


def test_it_stops_at_once_also_while_it_builds(start_rag: StartRag, tmp_path: Path) -> None:
    rag = start_rag(ready=False, storage={"vectors": str(tmp_path)}, collections={"books": {"source": "disflqa"}})
    wait_until(lambda: any("passages" in reason for reason in rag.reasons()), "it builds", 60)
    since = time.monotonic()
    rag.process.terminate()
    assert rag.process.wait(timeout=10) == 0
    assert time.monotonic() - since < 5


# ---- PostgreSQL


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if (folder := binaries()) is None:
        pytest.skip("no PostgreSQL on this machine")
    server = Postgres(folder)
    server.initialise()
    server.start()
    yield server
    server.remove()


def test_documents_are_kept_in_postgresql_by_url(start_rag: StartRag, postgres: Postgres) -> None:
    rag = start_rag(storage={"database": postgres.url})
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    assert rag.found("what are the cats called")[0] == "cats"
    assert rag.write(*ALL_BOOKS)["unchanged"] == len(ALL_BOOKS)
    rag.operate("DELETE", f"{DOCUMENTS}/cats?tenant=*")
    assert "cats" not in rag.found("what are the cats called", limit=10)
    assert not list((rag.config_file.parent / "indexes").glob("*.sqlite"))
    nul = {"documents": [{"id": "nul", "text": "a\0b"}]}
    assert_error(rag.operate("PUT", DOCUMENTS, nul), 400, "bad_request", "NUL")


def test_both_databases_make_the_same_index(start_rag: StartRag, postgres: Postgres) -> None:
    """Databases sort text by their own rules; that must not be seen in an index."""
    versions = []
    for storage in ({}, {"database": postgres.url}):
        rag = start_rag(storage=storage, collections={"books": {"source": "empty"}})
        for listed in rag.operate("GET", "/v1/collections").json()["collections"]:
            assert listed["name"] == "books"
        for document in ALL_BOOKS:  # what the test before left
            rag.operate("DELETE", f"{DOCUMENTS}/{document['id']}?tenant={document['tenant']}")
        rag.write(*({"id": name, "text": f"About {name}.", "tenant": "*"} for name in ("b", "A", "a-1", "a1", "a.1")))
        rag.build("blue")
        versions.append(rag.search("about").json()["index"]["version"])
    assert versions[0] == versions[1]


def test_without_its_database_it_searches_on_for_a_while_and_writes_nothing(
    start_rag: StartRag, postgres: Postgres, engine: FakeEngine
) -> None:
    rag = start_rag(storage={"database": postgres.url, "rights_max_age_seconds": 4})
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    postgres.crash()
    try:
        assert rag.found("when does it open")
        assert_error(rag.operate("PUT", DOCUMENTS, {"documents": [ALL_BOOKS[0]]}), 503, "store_unavailable")
        assert_error(rag.operate("DELETE", f"{DOCUMENTS}/cats?tenant=*"), 503, "store_unavailable")
        wait_until(lambda: rag.metric("rag_store_ready") == 0, "the metrics tell")
        # Nobody knows any more who may see what: then nobody sees anything.
        wait_until(lambda: rag.search("cats").status_code == 503, "searches are refused", 15)
        assert_error(rag.search("cats"), 503, "store_unavailable")
        assert "Traceback" not in rag.log_file.read_text()
    finally:
        postgres.start()
    wait_until(lambda: rag.search("cats").status_code == 200, "searches work again", 15)
    assert rag.metric("rag_store_ready") == 1
    assert rag.write(*ALL_BOOKS)["unchanged"] == len(ALL_BOOKS)


def test_a_database_that_hangs_keeps_no_caller_waiting(start_rag: StartRag, postgres: Postgres) -> None:
    rag = start_rag(storage={"database": postgres.url, "rights_max_age_seconds": 30})
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    postgres.hang()
    try:
        assert rag.found("when does it open")
        assert_error(rag.operate("PUT", DOCUMENTS, {"documents": [ALL_BOOKS[0]]}), 503, "store_unavailable")
        assert rag.found("when does it open")
    finally:
        postgres.go_on()
    wait_until(lambda: rag.operate("PUT", DOCUMENTS, {"documents": [ALL_BOOKS[0]]}).status_code == 200, "writes", 20)


def test_a_start_without_its_database_waits_for_it(start_rag: StartRag, postgres: Postgres) -> None:
    postgres.crash()
    try:
        rag = start_rag(ready=False, storage={"database": postgres.url})
        wait_until(lambda: any("does not answer" in reason for reason in rag.reasons()), "the reason is told", 20)
    finally:
        postgres.start()
    wait_until(lambda: not rag.reasons(), "it is ready", 30)
