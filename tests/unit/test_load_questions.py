"""The questions that requests are made of, and their splits."""

import json
import random
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import LoadError
from loadtests.questions import LONGEST, SOURCE, SPLITS, draw, load_questions, normalised, split_of, written

REAL = Path(__file__).parents[2] / ".cache" / "data"


def lay_out(data: Path, questions: list[str]) -> Path:
    path = data / SOURCE
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps({"question": text, "passage": "…"}) + "\n" for text in questions))
    return data


@given(st.text(max_size=80))
def test_spellings_of_one_question_are_in_one_split(text):
    assert split_of(text) in SPLITS
    assert split_of(f"  {text.lower()} ?") == split_of(text.lower())


def test_splits_share_no_question_and_leave_none_out(tmp_path):
    questions = [f"is {number} a prime number" for number in range(500)]
    data = lay_out(tmp_path, questions)
    splits = {name: load_questions(data, name) for name in SPLITS}
    together = [normalised(text) for texts in splits.values() for text in texts]
    assert sorted(together) == sorted(questions)
    assert all(splits.values())


@pytest.mark.skipif(not (REAL / SOURCE).exists(), reason="the data packages are not unpacked")
def test_the_real_questions_are_enough_for_long_runs_and_fall_into_disjoint_splits():
    splits = {name: {normalised(text) for text in load_questions(REAL, name)} for name in SPLITS}
    assert sum(len(texts) for texts in splits.values()) == len(set().union(*splits.values()))
    assert all(len(texts) > 3000 for texts in splits.values())


def test_a_question_is_typed_as_a_person_types_it():
    assert written("  is al(oh)3   a strong base ") == "Is al(oh)3 a strong base?"
    assert written("who said so??") == "Who said so?"


def test_repeated_overlong_and_empty_questions_are_left_out(tmp_path):
    split = split_of("is it so")
    data = lay_out(tmp_path, ["is it so", "Is it so?", "", " ? ", "x" * (LONGEST + 1)])
    assert load_questions(data, split) == ["Is it so?"]


def test_no_question_comes_again_before_all_have_come():
    questions = [f"Question {number}?" for number in range(7)]
    drawn = list(islice(draw(questions, random.Random(5)), 21))
    rounds = [drawn[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(round_) == questions for round_ in rounds)
    assert rounds[0] != rounds[1]


def test_missing_data_say_where_they_were_looked_for(tmp_path):
    with pytest.raises(LoadError, match=r"BoolQ.combined\.jsonl: cannot read the questions"):
        load_questions(tmp_path, "practice")


@pytest.mark.parametrize("line", ["not json", "[]", '{"text": "is it so"}', '{"question": 3}'])
def test_a_broken_line_is_named(tmp_path, line):
    lay_out(tmp_path, ["is it so"])
    with (tmp_path / SOURCE).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(LoadError, match="line 2"):
        load_questions(tmp_path, "practice")


def test_an_unknown_split_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(LoadError, match="calibration, practice, grading"):
        load_questions(tmp_path, "test")
