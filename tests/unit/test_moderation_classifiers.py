"""Tier 2's classifiers: one interface, scores from 0 to 1, and weights that belong to their encoder."""

from pathlib import Path

import numpy as np
import pytest

from stack.moderation.attributes import Attributes
from stack.moderation.classifiers import (
    MINILM,
    ClassifierConfig,
    ClassifierError,
    HateSonar,
    Mean,
    build_classifier,
    load_minilm,
)
from stack.moderation.encoder import Encoder
from stack.moderation.training.data import DATA

INSULTS = ["you are a stupid worthless piece of shit", "shut up you fucking idiot"]
HARMLESS = ["The council meets on Tuesday to discuss the new library.", "how do i renew a passport in spain"]


@pytest.mark.parametrize("kind", ["linear", "minilm", "mean", "hatesonar"])
def test_every_classifier_tells_plain_insults_from_harmless_text(kind) -> None:
    classifier = build_classifier(ClassifierConfig(kind=kind, data=DATA), Path())
    scores = classifier.scores(INSULTS + HARMLESS)
    assert scores.shape == (4,)
    assert scores.dtype == np.float64
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores[:2].min() > scores[2:].max() + 0.3
    assert classifier.scores([]).shape == (0,)


def test_a_text_scores_the_same_alone_and_among_others() -> None:
    classifier = load_minilm(DATA)
    together = classifier.scores(["short", *INSULTS, "a much longer harmless sentence about the weather of today"])
    assert classifier.scores([INSULTS[0]])[0] == pytest.approx(together[1], abs=1e-3)


def test_an_empty_text_and_an_endless_one_get_a_score() -> None:
    scores = load_minilm(DATA).scores(["", "word " * 20_000])
    assert np.isfinite(scores).all()


def test_relative_paths_count_from_the_folder_of_the_configuration() -> None:
    config = ClassifierConfig(kind="minilm", data=Path(DATA.name))
    assert build_classifier(config, DATA.parent).scores(INSULTS).min() > 0.5


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    with np.load(MINILM) as file:
        np.savez(tmp_path / "other.npz", **{**file, "encoder_sha256": np.array("0" * 64)})
    with pytest.raises(ClassifierError, match=r"other\.npz was trained on another encoder"):
        load_minilm(DATA, path=tmp_path / "other.npz")


def test_a_file_that_holds_no_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"not an archive")
    with pytest.raises(ClassifierError, match=r"weights\.npz: not a classifier's weights"):
        load_minilm(DATA, path=tmp_path / "weights.npz")


def test_a_missing_encoder_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match="make drill"):
        load_minilm(tmp_path)


def test_the_mean_is_the_mean() -> None:
    class Always:
        name = "always"

        def __init__(self, score: float) -> None:
            self.score = score

        def scores(self, texts):
            return np.full(len(texts), self.score)

    assert Mean([Always(0.2), Always(0.8)]).scores(["a", "b"]) == pytest.approx([0.5, 0.5])


def test_words_that_hatesonar_does_not_know_leave_its_prior() -> None:
    sonar = HateSonar(["bad"], np.array([2.0]), np.array([[0.0], [5.0], [0.0]]), np.array([0.0, 0.0, 2.0]))
    prior, known = sonar.scores(["unheard of", "bad"])
    assert prior == pytest.approx(1 - np.exp(2) / (np.exp(2) + 2))
    assert known > 0.9


@pytest.fixture(scope="module")
def attributes() -> Attributes:
    return Attributes(Encoder(DATA))


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("you stupid idiot", "harassment"),
        ("I will kill you tonight", "harassment/threatening"),
        ("suck my cock", "sexual"),
    ],
)
def test_a_toxic_text_gets_the_category_of_its_offence(attributes: Attributes, text: str, category: str) -> None:
    assert attributes.category(text) == category
    assert all(0 <= score <= 1 for score in attributes.scores(text).values())


def test_weights_of_other_attributes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", names=np.array(["charm"]), weights=np.zeros((1, 384)), bias=np.zeros(1))
    with pytest.raises(ClassifierError, match="holds charm, not insult"):
        Attributes(Encoder(DATA), tmp_path / "other.npz")
