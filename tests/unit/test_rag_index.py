"""Index versions: deterministic, complete or absent, checked when they are opened, compared by their manifest."""

import json
from pathlib import Path
from typing import Any

import pytest
from rag_library import BOOKS, INDEX, Library, document
from small_encoder import small_encoder

from stack.rag.index import build as build_module
from stack.rag.index.manifest import Manifest, read_manifest
from stack.rag.index.opened import DamagedIndex, NotBuilt, open_index
from stack.rag.index.passages import chunk_id
from stack.rag.index.versions import BuildBusy
from stack.rag.live import IndexRefused

CAT = document("cat", "The cat sat.")
DOG = document("dog", "The dog ran. " * 20)


def version(library: Library, slot: str = "blue") -> str:
    return library.live.versions.state().slots[slot]


def manifest(library: Library, slot: str = "blue") -> Manifest:
    return read_manifest(library.live.versions.path(version(library, slot)))


def folders(library: Library) -> set[str]:
    return {path.name for path in library.live.versions.folder.iterdir() if path.is_dir()}


# ---- what is built


def test_the_same_documents_make_the_same_version_anywhere(tmp_path: Path) -> None:
    one, other = Library(tmp_path / "one"), Library(tmp_path / "other")
    one.open(CAT, DOG)
    other.open(DOG)
    other.write(CAT)
    other.live.build("blue")
    assert version(one) == version(other)
    assert manifest(one).files == manifest(other).files


@pytest.mark.parametrize(
    "index",
    [{"chunk": None}, {"chunk": {"max_tokens": 17}}, {"dense": {"kind": "hnsw"}}, {"sparse": {"k1": 1.2}}],
)
def test_other_settings_make_another_version(tmp_path: Path, index: dict[str, Any]) -> None:
    one = Library(tmp_path)
    one.open(CAT, DOG)
    before = version(one)
    other = Library(tmp_path, {"indexes": {"blue": INDEX | index}})
    other.live.prepare()
    assert version(other) != before


def test_another_model_behind_the_same_alias_makes_another_version(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.open(CAT)
    before = version(library)
    again = Library(tmp_path)
    small_encoder(tmp_path / "encoder", seed=2)
    again.live.prepare()
    assert version(again) != before


def test_chunk_ids_depend_on_the_document_alone(tmp_path: Path) -> None:
    assert chunk_id(CAT, 0, "The cat") == chunk_id(document("cat", "Other text"), 0, "The cat")
    different = {
        chunk_id(CAT, 0, "The cat"),
        chunk_id(CAT, 1, "The cat"),
        chunk_id(CAT, 0, "The dog"),
        chunk_id(document("dog", ""), 0, "The cat"),
        chunk_id(document("cat", "", "riverside"), 0, "The cat"),
    }
    assert len(different) == 5


def test_documents_are_cut_and_each_row_knows_its_document(tmp_path: Path) -> None:
    library = Library(tmp_path)
    passages = library.open(CAT, DOG).current.index.passages
    assert len(passages) > 3
    for passage, owner in zip(passages.passages, passages.owners, strict=True):
        assert owner == ("*", passage.document)
        assert passage.chunk.startswith(f"{passage.document}#")


def test_a_shortened_document_leaves_no_passage_behind(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.open(CAT, DOG)
    library.write(document("dog", "The dog ran."))
    library.live.build("blue")
    assert [passage.text for passage in library.live.current.index.passages.passages] == [
        "The cat sat.",
        "The dog ran.",
    ]


def test_a_collection_without_documents_has_an_index_that_finds_nothing(tmp_path: Path) -> None:
    live = Library(tmp_path).open()
    assert live.current.index.manifest.passages == 0
    assert (live.current.index.sparse, live.current.index.dense) == (None, None)


def test_only_what_is_new_is_encoded(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.open(CAT, DOG)
    library.write(document("mat", "The mat ran."))
    told: list[tuple[str, int, int]] = []
    library.live.build_only("blue", lambda *what: told.append(what))
    assert next(one for one in told if one[0] == "passages") == ("passages", 7, 7)
    told.clear()
    library.live.build_only("green", lambda *what: told.append(what))
    assert not [one for one in told if one[0] == "passages"]


def test_the_lag_counts_each_document_that_differs(tmp_path: Path) -> None:
    library = Library(tmp_path)
    live = library.open(CAT, DOG)
    assert live.lag == 0
    library.write(document("cat", "The cat ran."), document("mat", "The mat sat."))
    library.parts.store.delete("books", ("*", "dog"))
    live.refresh()
    assert live.lag == 3
    assert library.sample("rag_index_lag_documents") == 3


def test_an_encoder_under_a_new_alias_is_the_same_and_nothing_is_built(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.open(CAT, DOG)
    books = json.loads(json.dumps(BOOKS).replace('"small"', '"renamed"'))
    renamed = Library(tmp_path, books | {"rebuild": "missing"}, encoders={"renamed": SMALL["small"]})
    renamed.live.prepare()
    assert renamed.live.problem is None
    assert version(renamed) == version(library)


def test_another_encoder_in_the_slot_is_refused_where_nothing_may_be_built(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.open(CAT, DOG)
    small_encoder(tmp_path / "other", seed=2)
    index = {"blue": INDEX | {"encoder": "other"}}
    changed = Library(tmp_path, {"rebuild": "missing", "indexes": index}, encoders=SMALL | OTHER)
    changed.live.prepare()
    assert "it was built with another setting of encoder" in changed.live.problem


# ---- slots


def test_the_old_version_is_kept_until_the_next_build(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.open(CAT)
    first = version(library)
    library.write(DOG)
    library.live.build("blue")
    second = version(library)
    assert folders(library) == {first, second}
    library.write(document("mat", "The mat."))
    library.live.build("blue")
    assert folders(library) == {second, version(library)}


def test_two_builds_do_not_run_at_the_same_time(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.open(CAT)
    with library.live.versions.building(), pytest.raises(BuildBusy, match="another process"):
        library.live.build("green")


@pytest.mark.parametrize("step", ["write_contents", "_write_legs", "_describe"])
def test_a_build_that_ends_halfway_leaves_what_was_there(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(tmp_path)
    live = library.open(CAT)
    before = version(library)
    library.write(DOG)

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build_module, step, end)
        with pytest.raises(KeyboardInterrupt):
            live.build("blue")
    assert version(library) == before
    assert open_index(live.versions, "blue").manifest.version == before
    live.build("blue")
    assert folders(library) == {before, version(library)}
    assert not [name for name in folders(library) if name.startswith(".unfinished")]


def test_a_switch_survives_and_a_change_of_the_configuration_wins(tmp_path: Path) -> None:
    versions = Library(tmp_path).live.versions
    assert versions.active("blue") == "blue"
    versions.activate("green", configured="blue")
    assert versions.settle("blue") == "green"
    assert versions.settle("green") == "green"
    assert versions.settle("blue") == "blue"


def test_a_slot_that_is_not_built_is_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(NotBuilt, match="--collection books --slot green"):
        open_index(Library(tmp_path).live.versions, "green")


# ---- damage


@pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
@pytest.mark.parametrize(
    "name",
    ["manifest.json", "passages.jsonl", "documents.json", "dense/vectors.faiss", "dense/settings.json",
     "sparse/settings.json", "sparse/vocab.index.json", "sparse/data.csc.index.npy"],
)  # fmt: skip
def test_a_damaged_file_is_named_with_the_command_that_mends_it(tmp_path: Path, name: str, damage: str) -> None:
    library = Library(tmp_path)
    library.open(CAT, DOG)
    file = library.live.versions.path(version(library)) / name
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"~" + whole[1:])
    with pytest.raises(DamagedIndex) as error:
        open_index(library.live.versions, "blue")
    assert name in str(error.value)
    assert "python -m stack.rag.index build" in str(error.value)
    again = Library(tmp_path)
    again.live.prepare()
    assert name in again.live.problem
    again.live.build("blue")
    assert again.live.problem is None
    assert open_index(again.live.versions, "blue").manifest.passages == 6


def test_files_that_do_not_belong_together_are_not_served(tmp_path: Path) -> None:
    """Each file is whole, and the manifest knows it: still the rows of one are not those of the other."""
    library = Library(tmp_path)
    library.open(CAT, DOG)
    folder = library.live.versions.path(version(library))
    lines = (folder / "passages.jsonl").read_text().splitlines(keepends=True)
    (folder / "passages.jsonl").write_text("".join(lines[1:]))
    told = json.loads((folder / "manifest.json").read_text())
    told["files"].pop("passages.jsonl")
    (folder / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(DamagedIndex, match=r"6 rows, but passages\.jsonl has 5"):
        open_index(library.live.versions, "blue")


def test_a_manifest_of_another_version_is_not_believed(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.open(CAT)
    path = library.live.versions.path(version(library)) / "manifest.json"
    path.write_text(path.read_text().replace('"k1": 1.5', '"k1": 1.2'))
    with pytest.raises(DamagedIndex, match=r"manifest\.json: not the manifest of this version"):
        open_index(library.live.versions, "blue")


# ---- manifests


OTHER = {"other": {"kind": "onnx", "model": "other/model.onnx", "tokenizer": "other/tokenizer.json"}}
SMALL = {"small": {"kind": "onnx", "model": "encoder/model.onnx", "tokenizer": "encoder/tokenizer.json"}}


def searched_with(folder: Path, encoder: dict[str, Any], **books: Any) -> Library:
    """An index by `small`, searched through the encoder `other`."""
    library = Library(folder)
    library.open(CAT, DOG)
    query = BOOKS["query"] | {"encoder": "other", "rerank": {"kind": "none"}}
    small_encoder(folder / "other", seed=encoder.pop("seed", 1))
    encoders = SMALL | {"other": OTHER["other"] | encoder}
    other = Library(folder, {"query": query, "rebuild": "missing", **books}, encoders=encoders)
    other.live.prepare()
    return other


@pytest.mark.parametrize(
    ("check", "encoder", "says"),
    [
        ("encoder", {"seed": 2}, "query.encoder 'other' is another model than 'small'"),
        ("prefix", {"query_prefix": "query: "}, "query.encoder 'other' has prefix ('query: ', ''), the index ('', '')"),
        ("max_tokens", {"max_tokens": 64}, "query.encoder 'other' has max_tokens 64, the index 256"),
        ("normalise", {"normalise": False}, "query.encoder 'other' has normalise False, the index True"),
    ],
)
def test_each_check_refuses_warns_or_ignores(
    tmp_path: Path, check: str, encoder: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = searched_with(tmp_path, dict(encoder))
    assert f"(manifest_checks: {check}): {says}. " in refused.live.problem
    assert refused.live.current is None
    warned = searched_with(tmp_path, dict(encoder), manifest_checks={check: "warn"})
    assert warned.live.problem is None
    assert [record.problem for record in caplog.records if record.message == "manifest differs"] == [says]
    caplog.clear()
    ignored = searched_with(tmp_path, dict(encoder), manifest_checks={check: "ignore"})
    assert ignored.live.problem is None
    assert not [record for record in caplog.records if record.message == "manifest differs"]


def test_the_same_model_under_another_alias_is_the_same(tmp_path: Path) -> None:
    assert searched_with(tmp_path, {}).live.problem is None


def test_vectors_of_another_dimension_are_refused_whatever_is_configured(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.open(CAT)
    path = library.live.versions.path(version(library)) / "manifest.json"
    told = json.loads(path.read_text())
    told["encoder"]["dimension"] = 12
    path.write_text(json.dumps(told))
    ignore = dict.fromkeys(("encoder", "prefix", "max_tokens", "normalise", "analyser", "settings", "corpus"), "ignore")
    again = Library(tmp_path, {"manifest_checks": ignore})
    again.live.prepare()
    assert "makes vectors of 8 numbers, the index holds 12" in again.live.problem


def test_words_that_are_analysed_otherwise_are_refused(tmp_path: Path) -> None:
    sparse = {"query_analyser": {"stemmer": "none"}}
    library = Library(tmp_path, {"indexes": {"blue": INDEX | {"sparse": sparse}}})
    library.write(CAT)
    library.live.prepare()
    assert "manifest_checks: analyser" in library.live.problem


def test_an_index_of_other_documents_is_refused_where_it_may_not_be_built_again(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.open(CAT)
    library.write(DOG)
    again = Library(tmp_path, {"rebuild": "missing"})
    again.live.prepare()
    assert "it was built from other documents" in again.live.problem


def test_a_switch_that_is_refused_leaves_the_index_that_was_searched(tmp_path: Path) -> None:
    library = Library(tmp_path)
    live = library.open(CAT)
    live.build("green")
    library.write(DOG)
    before = live.current.index.manifest.version
    with pytest.raises(IndexRefused, match="other documents"):
        live.switch("green")
    assert (live.current.index.slot, live.current.index.manifest.version) == ("blue", before)
    assert live.versions.active("blue") == "blue"


def test_a_file_of_the_encoder_that_is_missing_is_named(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.write(CAT)
    (tmp_path / "encoder/model.onnx").unlink()
    library.live.prepare()
    assert "encoder/model.onnx" in library.live.problem
