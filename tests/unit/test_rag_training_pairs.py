"""Hard negatives: who is a candidate, and who counts as wrong."""

import numpy as np
import pytest
from small_encoder import small_encoder

from stack.rag.encoders import EmbeddingCache, open_encoder
from stack.rag.training.corpus import Question
from stack.rag.training.pairs import Candidates, mine
from stack.rag.training.train import TrainingSettings, groups_of

PASSAGES = ["the cat sat", "the dog ran", "the storm ran", "the cat sat on the mat", "mat mat zebra"]


@pytest.fixture
def found(tmp_path) -> Candidates:
    encoder = open_encoder("small", small_encoder(tmp_path), tmp_path)
    questions = [Question("cat sat", PASSAGES[0], "boolq"), Question("zebra dog", PASSAGES[1], "boolq")]
    return mine(questions, PASSAGES, encoder, EmbeddingCache(tmp_path / "vectors"), depth=2)


def _rows(found: Candidates, question: int) -> set[int]:
    return set(found.rows[question].tolist()) - {-1}


def test_both_retrievers_bring_candidates(found):
    # The encoder does not know the word "zebra", so only shared words can find the passage.
    assert 4 in _rows(found, 1)
    assert len(_rows(found, 1)) > 1


def test_candidates_come_once_each_and_by_falling_cosine(found):
    for rows, cosine in zip(found.rows, found.cosine, strict=True):
        known = rows[rows >= 0]
        assert len(set(known.tolist())) == len(known)
        assert (np.diff(cosine[: len(known)]) <= 0).all()


def test_the_right_passage_is_never_a_negative(found):
    assert found.right.tolist() == [0, 1]
    for i, right in enumerate(found.right):
        assert right not in found.rows[i][found.negative[i]]


def test_a_passage_that_holds_the_right_one_is_no_negative_either(tmp_path):
    whole = "one two three four five six seven eight nine ten"
    passages = [whole, f"{whole} eleven twelve", "one seven three nine five two"]
    encoder = open_encoder("small", small_encoder(tmp_path), tmp_path)
    found = mine([Question("one", whole, "boolq")], passages, encoder, EmbeddingCache(tmp_path / "v"), depth=3)
    wrong = set(found.rows[0][found.negative[0]].tolist())
    assert wrong == {2}


def _many(questions: int, wrong: int) -> Candidates:
    """Question i is answered by passage i; its negatives fall in cosine."""
    passages = tuple(f"p{n}" for n in range(questions + wrong))
    rows = np.tile(np.arange(questions, questions + wrong, dtype=np.int32), (questions, 1))
    cosine = np.tile(np.linspace(0.9, 0.1, wrong, dtype=np.float32), (questions, 1))
    asked = tuple(f"q{n}" for n in range(questions))
    right = np.arange(questions, dtype=np.int32)
    return Candidates(asked, passages, rows, cosine, np.ones(rows.shape, bool), right)


def test_every_question_is_read_once_before_any_is_read_twice():
    candidates, settings = _many(12, 6), TrainingSettings(questions=4, negatives=3)
    read = [i for step in range(3) for i, _ in groups_of(candidates, step, settings)]
    assert sorted(read) == list(range(12))
    again = [i for step in range(3, 6) for i, _ in groups_of(candidates, step, settings)]
    assert sorted(again) == list(range(12))
    assert again != read


def test_a_step_reads_the_right_passage_first_and_then_different_wrong_ones():
    candidates, settings = _many(12, 6), TrainingSettings(questions=4, negatives=3)
    for i, rows in groups_of(candidates, 1, settings):
        assert rows[0] == i
        assert len(set(rows.tolist())) == 4
        assert (rows[1:] >= 12).all()


def test_what_a_step_reads_follows_from_seed_and_step_alone():
    candidates = _many(12, 6)

    def read(seed: int) -> list:
        settings = TrainingSettings(seed=seed, questions=4, negatives=3)
        return [(i, rows.tolist()) for step in (5, 2) for i, rows in groups_of(candidates, step, settings)]

    assert read(1) == read(1)
    assert read(1) != read(2)


def test_harder_negatives_are_read_more_often_and_easy_ones_too():
    candidates, settings = _many(200, 12), TrainingSettings(questions=200, negatives=3)
    drawn = np.concatenate([rows[1:] - 200 for step in range(3) for _, rows in groups_of(candidates, step, settings)])
    count = np.bincount(drawn, minlength=12)
    assert count[0] > count[4] > count[11]
    assert (count > 0).sum() > 6


def test_a_question_with_too_few_negatives_is_not_read():
    candidates, settings = _many(12, 6), TrainingSettings(questions=4, negatives=3)
    candidates.negative[7, 2:] = False
    assert 7 not in {i for step in range(6) for i, _ in groups_of(candidates, step, settings)}
