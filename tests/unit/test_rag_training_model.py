"""The cross-encoder: where it starts, that a cut-off run loses nothing, and what the exported file answers."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from small_bert import small_bert

from stack.rag.config.stages import CrossEncoder
from stack.rag.rerank.cross import open_pair_model
from stack.rag.training import train as training
from stack.rag.training.export import agreement, export
from stack.rag.training.head import LateInteractionHead
from stack.rag.training.model import features, new_model, pair_tokenizer, score
from stack.rag.training.pairs import Candidates
from stack.rag.training.train import CHECKPOINT, LOG, TrainingSettings, train

PAIRS = [
    ("what did the cat", "the cat sat on the mat"),
    ("who ran", "a dog ran"),
    ("why did it rain", "the storm on the mat melted a snow cat who ran the dog"),
]
SMALL = TrainingSettings(
    layers=2, steps=6, questions=2, negatives=2, max_tokens=32, evaluate_every=2, evaluate_questions=4, threads=1
)

pytestmark = pytest.mark.usefixtures("root_logger")  # an export makes it quieter


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return small_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    passages = ("the cat sat on the mat", "a dog ran", "the storm barked", "snow fell on the dog", "a cat slept")
    questions = ("where sat the cat", "who ran", "what barked", "where did snow fall")
    rows = np.array([[i for i in range(5) if i != right] for right in range(4)], np.int32)
    held = np.sort(np.concatenate([rows, np.arange(4, dtype=np.int32)[:, None]], axis=1), axis=1)
    cosine = np.tile(np.linspace(0.9, 0.1, 5, dtype=np.float32), (4, 1))
    right = np.arange(4, dtype=np.int32)
    return Candidates(questions, passages, held, cosine, held != right[:, None], right)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_before_training_the_score_is_late_interaction_within_the_pair(base):
    model, tokenizer = new_model(base, 2), pair_tokenizer(base, 32)
    inputs = features(tokenizer, PAIRS[:1])
    with torch.no_grad():
        found = model(dict(inputs))["scores"].item()
        states = model[0](dict(inputs))["token_embeddings"][0]
    unit = torch.nn.functional.normalize(states, dim=1)
    words = ~torch.isin(inputs["input_ids"][0], torch.tensor([2, 3]))
    passage = inputs["token_type_ids"][0] == 1
    best = (unit[words & ~passage] @ unit[words & passage].T).max(dim=1).values
    assert found == pytest.approx(20 * best.mean().item(), rel=1e-5)


def test_a_pair_scores_the_same_beside_longer_ones(base):
    model, tokenizer = new_model(base, 2), pair_tokenizer(base, 32)
    with torch.no_grad():
        together = model(features(tokenizer, PAIRS))["scores"].squeeze(-1)
        alone = torch.cat([model(features(tokenizer, [pair]))["scores"].squeeze(-1) for pair in PAIRS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_scores_come_in_the_order_of_the_pairs_although_batches_are_by_length(base):
    model, tokenizer = new_model(base, 2), pair_tokenizer(base, 32)
    with torch.no_grad():
        found = score(model, tokenizer, PAIRS, batch=1)
        back = score(model, tokenizer, PAIRS[::-1], batch=1)
    torch.testing.assert_close(found, back.flip(0))


def test_the_head_comes_back_from_its_files(tmp_path):
    head = LateInteractionHead(16, [2, 3])
    torch.nn.init.normal_(head.weight.weight)
    head.save(str(tmp_path))
    loaded = LateInteractionHead.load(str(tmp_path))
    assert loaded.special == [2, 3]
    assert torch.equal(loaded.weight.weight, head.weight.weight)


def test_training_lowers_the_loss_and_leaves_word_vectors_alone(base, candidates, tmp_path):
    settings = SMALL.model_copy(update={"steps": 30, "evaluate_every": 10, "learning_rate": 1e-3})
    train(candidates, candidates, base, settings, tmp_path)
    log = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [entry["step"] for entry in log] == [0, 10, 20, 30]
    assert log[-1]["loss"] < log[1]["loss"]
    words = "0.model.embeddings.word_embeddings.weight"
    trained = torch.load(tmp_path / CHECKPOINT, weights_only=True)["model"]
    assert torch.equal(trained[words], new_model(base, 2).state_dict()[words])


def test_a_run_that_was_cut_off_ends_with_the_same_weights(base, candidates, tmp_path, monkeypatch):
    train(candidates, candidates, base, SMALL, tmp_path / "whole")
    steps, step = [], training._step

    def cut_off(*arguments):
        steps.append(arguments[-2])
        if len(steps) == 4:  # one step after a checkpoint
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(training, "_step", cut_off)
    with pytest.raises(KeyboardInterrupt):
        train(candidates, candidates, base, SMALL, tmp_path / "cut")
    train(candidates, candidates, base, SMALL, tmp_path / "cut")
    assert steps[3:5] == [3, 2]
    whole, cut = (_weights(tmp_path / name / CHECKPOINT) for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_folder_of_another_run_is_refused(base, candidates, tmp_path):
    train(candidates, candidates, base, SMALL, tmp_path)
    with pytest.raises(ValueError, match="other settings; choose another folder"):
        train(candidates, candidates, base, SMALL.model_copy(update={"seed": 9}), tmp_path)


def test_the_best_checkpoint_is_kept_when_later_ones_are_worse(base, candidates, tmp_path, monkeypatch):
    values = iter([0.2, 0.9, 0.5, 0.4])
    monkeypatch.setattr(training, "held_out_gain", lambda *_: {"chosen by": next(values)})
    best = train(candidates, candidates, base, SMALL, tmp_path)
    assert torch.load(best, weights_only=True)["step"] == 2


def test_the_exported_model_answers_like_the_original(base, tmp_path):
    model = new_model(base, 2)
    torch.nn.init.normal_(model[1].first.weight)
    export(model, base / "tokenizer.json", tmp_path / "out")
    same = agreement(model, tmp_path / "out/model.onnx", pair_tokenizer(base, 32), [PAIRS])
    assert same.mean_difference < 0.1
    assert same.same_first == 1


def test_the_service_loads_the_exported_folder_and_cuts_the_passage(base, tmp_path):
    model = new_model(base, 2)
    export(model, base / "tokenizer.json", tmp_path / "out")
    served = open_pair_model(CrossEncoder(kind="cross-encoder", model=Path("out"), max_tokens=16), tmp_path)
    found = served.score("who ran", [passage for _, passage in PAIRS])
    with torch.no_grad():
        pairs = [("who ran", passage) for _, passage in PAIRS]
        expected = model(features(pair_tokenizer(base, 16), pairs))["scores"].squeeze(-1).numpy()
    np.testing.assert_allclose(found, expected, atol=0.3)
    assert found.argmax() == expected.argmax()
    assert served.score("who ran", ["a dog ran" + " the" * 40]).shape == (1,)


def test_the_exported_file_takes_any_number_of_pairs_of_any_length(base, tmp_path):
    export(new_model(base, 2), base / "tokenizer.json", tmp_path / "out")
    session = onnxruntime.InferenceSession(str(tmp_path / "out/model.onnx"))
    tokenizer = pair_tokenizer(base, 32)
    for pairs in (PAIRS[:1], PAIRS, PAIRS * 7):
        inputs = {name: tensor.numpy() for name, tensor in features(tokenizer, pairs).items()}
        (logits,) = session.run(None, inputs)
        assert logits.shape == (len(pairs), 1)
