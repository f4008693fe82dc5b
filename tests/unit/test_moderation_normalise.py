"""What normalisation sees through, what it leaves alone, and that it stays bounded and linear."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.moderation.normalise import MAX_CHARACTERS, STEPS, Vocabulary, normalise
from stack.moderation.training.obfuscate import FAMILIES

WORDS = Vocabulary(["asshole", "bitch", "fuck", "fucking", "idiot", "shit", "slut"])


def plain(text: str) -> str:
    return normalise(text, vocabulary=WORDS).text


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_obfuscation_is_undone(family: str) -> None:
    for text in ("you are the fucking idiot", "what stupid bitch is she", "eat shit and go home you old asshole"):
        assert plain(FAMILIES[family](text)) == text


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("f u c k off", "fuck off"),
        ("f.u.c.k off", "fuck off"),
        ("y o u f u c k", "you fuck"),
        ("f**k this sh*t", "fuck this shit"),
        ("f--k", "fuck"),
        ("b1tch, s1ut", "bitch, slut"),
        ("fuuuuuck", "fuck"),
        ("cooooool", "cool"),
        ("what the fück is this", "what the fuck is this"),
        ("f\u0336u\u0336c\u0336k\u0336", "fuck"),
        ("𝓯𝓾𝓬𝓴 ⓕⓤⓒⓚ", "fuck fuck"),
        ("4ll y0u 4r3 15 4n 1d10t", "all you are is an idiot"),
        ("5h1t h4pp3ns", "shit happens"),
        ("уес, fuсk", "yec, fuck"),
    ],
)
def test_what_a_reader_sees_is_read(typed: str, read: str) -> None:
    assert plain(typed) == read


@pytest.mark.parametrize(
    "text",
    [
        "Скорая помощь приехала в три часа, а он уже спал. Вот и всё.",
        "Нажмите USB-кабель и откройте IT-отдел",
        "Η Ελλάδα είναι χώρα της Ευρώπης",
        "Işık şık bir sıkıntı yaşadı; İstanbul’da öğrenci",
        "Scunthorpe and Penistone, a class assessment in Essex",
        "the 3rd of 22 players scored 10k in 5min for $5 on the i-70 in a 401(k), an 8-year-old, Rififi(1955)",
        "mail a.person@example.org or see https://example.org/4ss?x=1 and ask @somebody1",
        "façade, naïve, Müller, Čapek",
        "U.S. policy of 1 2 3 4 5",
    ],
)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    steps = tuple(step for step in STEPS if step != "nfkc")
    assert normalise(text, steps, WORDS).text == text


def test_a_step_that_is_switched_off_does_nothing() -> None:
    assert normalise("ｆｕｃｋ", ("format",), WORDS).text == "ｆｕｃｋ"
    assert normalise("fսck 1d10t", ("confusables",), WORDS).text == "fuck 1d10t"


def test_the_steps_that_changed_something_are_named_in_their_order() -> None:
    assert normalise("f\u200bսck 1d10t", ("leet", "format", "confusables"), WORDS).applied == (
        "format",
        "confusables",
        "leet",
    )
    assert normalise("plain words", vocabulary=WORDS).applied == ()


def test_masked_words_with_several_readings_stay_masked() -> None:
    assert normalise("b***", vocabulary=Vocabulary(["bond", "boss"])).text == "b***"


@given(st.text(max_size=300))
def test_any_text_is_taken_and_what_changed_it_is_named(text: str) -> None:
    once = normalise(text, vocabulary=WORDS, max_characters=400)
    assert len(once.text) <= 400
    assert once.applied or once.text == text


def test_length_is_bounded_also_where_unicode_expands_it() -> None:
    grown = normalise("\ufdfa" * 3000)  # eighteen characters each after composition
    assert grown.truncated
    assert len(grown.text) == MAX_CHARACTERS
    assert normalise("x y" * 10000).truncated


@pytest.mark.parametrize("unit", ["f.u.", "***a", "1a", "аa", "aaab", "f u c k ", "@", "a*", "\u0301a", "((1a", "f-"])
def test_hostile_texts_take_time_in_proportion_to_their_length(unit: str) -> None:
    def cpu(length: int) -> float:
        text = (unit * length)[:length]
        start = time.process_time()
        normalise(text, vocabulary=WORDS)
        return time.process_time() - start

    cpu(1000)
    assert min(cpu(MAX_CHARACTERS) for _ in range(2)) < 1.0  # quadratic work would take minutes
