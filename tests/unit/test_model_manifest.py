"""A model folder is used only as it was prepared: each way of being damaged is named, with the mend."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.llm.manifest import MANIFEST, ModelError, verify, write_manifest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 300)
    (folder / "config.json").write_text("{}")
    write_manifest(folder)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        verify(folder)
    return str(caught.value)


def test_a_folder_as_it_was_prepared_is_taken(model):
    verify(model)
    assert set(json.loads((model / MANIFEST).read_text())["files"]) == {"model.safetensors", "config.json"}


def test_writing_the_manifest_again_does_not_describe_the_manifest(model):
    before = (model / MANIFEST).read_text()
    write_manifest(model)
    assert (model / MANIFEST).read_text() == before


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def flip_a_bit(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[40_000] ^= 1
    weights.write_bytes(data)


def remove(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def put_a_folder_in_its_place(folder: Path) -> None:
    remove(folder)
    (folder / "model.safetensors").mkdir()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "has 76,799 bytes instead of 76,800"),
        (flip_a_bit, "is not the file that was prepared (its SHA-256 differs)"),
        (remove, "is missing"),
        (put_a_folder_in_its_place, "is missing"),
    ],
)
def test_a_damaged_file_is_named_with_the_mend(model: Path, damage: Callable[[Path], None], said: str):
    """Bug: half a download, or one flipped bit: the engine starts, writes fluent text, and answers wrongly."""
    damage(model)
    assert refused(model) == f"{model / 'model.safetensors'} {said}: remove {model} and run `make drill` again"


def test_a_preparation_that_was_interrupted_left_no_manifest(model):
    (model / MANIFEST).unlink()
    assert refused(model) == f"no model at {model}: run `make drill`, which prepares it"


def test_no_folder_at_all_is_no_model(tmp_path):
    assert refused(tmp_path / "none") == f"no model at {tmp_path / 'none'}: run `make drill`, which prepares it"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff", b"null"])
def test_a_manifest_that_is_none_is_named_with_the_mend(model, content):
    (model / MANIFEST).write_bytes(content)
    assert refused(model) == f"{model / MANIFEST} is not a manifest: remove {model} and run `make drill` again"


@pytest.mark.parametrize("files", [[], {"config.json": None}, {"config.json": {"bytes": 2}}])
def test_entries_that_are_none_are_named_with_the_mend(model, files):
    (model / MANIFEST).write_text(json.dumps({"schema": 1, "files": files}))
    assert "is not a manifest" in refused(model)
