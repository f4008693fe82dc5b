"""What the reranker learns from, and what stays unseen."""

import json
from pathlib import Path

import pytest

from stack.rag.training.corpus import Question, bucket, in_test_half, parts, without_leaks

PASSAGE = "The storm of that winter took the roof off the old mill, and the miller never put it back on."


def _write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _passage(subject: str, n: int) -> str:
    return " ".join(f"{subject}{n}word{i}" for i in range(20))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files as the package has them: `combined` holds all of `dev`, with titles before the passages."""
    dev = [{"question": f"is dev {n} true", "title": "T", "passage": _passage("dev", n)} for n in range(20)]
    rest = [{"question": f"was train {n} so", "passage": f"T -- {_passage('train', n)}"} for n in range(300)]
    again = [{"question": row["question"], "passage": f"T -- {row['passage']}"} for row in dev]
    spoken = [
        {"question": f"who or no where did spoken {n} go {again}", "passage": _passage("spoken", n)}
        for n in range(60)
        for again in ("today", "then")
    ]
    talk = [{"question": "question1: who was she?\nquestion2: did she win?", "passage": _passage("talk", 1)}]
    _write(tmp_path / "BoolQ/dev.jsonl", dev)
    _write(tmp_path / "BoolQ/combined.jsonl", again + rest)
    _write(tmp_path / "Bigbench/DisflQA/test.jsonl", spoken)
    _write(tmp_path / "Quac/test.jsonl", talk)
    return tmp_path


def test_nothing_that_is_evaluated_is_learnt_from(data):
    found = parts(data)
    learnt = {q.passage for q in (*found.train, *found.select)}
    evaluated = {q.passage for questions in found.test.values() for q in questions}
    assert learnt
    assert not learnt & evaluated
    assert {q.source for q in found.train} == {"boolq", "disflqa", "quac"}


def test_the_questions_about_one_passage_stay_together(data):
    found = parts(data)
    train, select = ({q.passage for q in questions} for questions in (found.train, found.select))
    assert select
    assert not train & select
    for questions in (found.train, found.test["disflqa"]):
        spoken = [q.passage for q in questions if q.source == "disflqa"]
        assert all(spoken.count(passage) == 2 for passage in spoken)


def test_the_unseen_half_is_searched_among_all_passages(data):
    found = parts(data)
    assert {q.passage for q in found.test["disflqa"]} < set(found.collections["disflqa"])
    assert len(found.collections["disflqa"]) == 60


def test_titles_are_taken_off_so_that_training_sees_what_is_searched(data):
    assert not any(" -- " in q.passage for q in parts(data).train)


def test_a_passage_falls_on_the_same_side_however_it_is_written():
    assert bucket(PASSAGE, 100) == bucket(f"  {PASSAGE.upper()}! ", 100)
    assert in_test_half(PASSAGE) == in_test_half(PASSAGE.replace(",", " ;"))


def test_about_half_of_the_passages_are_kept_for_the_test():
    kept = sum(in_test_half(f"{PASSAGE} {n}") for n in range(400))
    assert 150 < kept < 250


@pytest.mark.parametrize(
    "passage",
    [PASSAGE, PASSAGE.replace(",", ""), f"{PASSAGE} In spring he left for the coast.", PASSAGE.replace("old", "red")],
)
def test_a_near_copy_of_an_evaluated_passage_is_left_out(passage):
    kept, dropped = without_leaks([Question("who fell", passage, "boolq")], [Question("what broke", PASSAGE, "boolq")])
    assert not kept
    assert dropped == {"question is evaluated": 0, "passage is evaluated": 1}


def test_an_evaluated_question_is_left_out_in_other_words_of_the_same_stems():
    asked = Question("did the millers put the roof back", PASSAGE, "boolq")
    kept, dropped = without_leaks([Question("The miller put back roofs?", "Quite another text.", "boolq")], [asked])
    assert not kept
    assert dropped == {"question is evaluated": 1, "passage is evaluated": 0}


def test_another_passage_on_the_same_subject_is_kept():
    other = Question("who left", "A miller who lost his roof in a storm left the old mill for the coast.", "boolq")
    kept, _ = without_leaks([other], [Question("what broke", PASSAGE, "boolq")])
    assert kept == (other,)
