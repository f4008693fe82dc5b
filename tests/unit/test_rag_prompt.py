"""The prompt: its budget of tokens, its order, and that only what is in it may be cited."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_encoder import small_encoder

from stack.rag.access import Passage
from stack.rag.config.prompt import Prompt
from stack.rag.hits import RetrievalError
from stack.rag.prompt import PromptBuilder, QuestionTooLong, Rendered, citations
from stack.service.errors import InternalError

MESSAGES = [{"role": "system", "content": "cat ."}, {"role": "user", "content": "{{ context }} {{ question }}"}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts words and signs."""
    folder = tmp_path_factory.mktemp("encoder")
    small_encoder(folder)
    return folder / "tokenizer.json"


def builder(tokenizer: Path, engine_tokens: int = 1000, **keys: Any) -> PromptBuilder:
    defaults = {"messages": MESSAGES, "passage": "{{ number }} : {{ text }}", "separator": " . ", "context_tokens": 20}
    return PromptBuilder(Prompt.model_validate(defaults | keys), tokenizer, engine_tokens)


def passages(*texts: str) -> list[Passage]:
    return [Passage(f"d{n}#0", f"d{n}", f"T{n}", text) for n, text in enumerate(texts)]


def render(prompts: PromptBuilder, *texts: str, question: str = "dog ran", answer: int = 10) -> Rendered:
    return prompts.render(passages(*texts), {"question": question}, answer)


def test_passages_stand_in_their_order_with_numbers(tokenizer: Path) -> None:
    prompt = render(builder(tokenizer), "cat sat", "dog ran")
    assert prompt.messages == [
        {"role": "system", "content": "cat ."},
        {"role": "user", "content": "1 : cat sat . 2 : dog ran dog ran"},
    ]
    assert [passage.document for passage in prompt.cited] == ["d0", "d1"]
    assert (prompt.context_tokens, prompt.dropped) == (9, 0)


def test_a_passage_without_room_is_left_out_and_a_shorter_one_takes_its_number(tokenizer: Path) -> None:
    prompt = render(builder(tokenizer, context_tokens=16), "cat sat", "dog " * 12, "mat mat")
    assert prompt.messages[1]["content"].startswith("1 : cat sat . 2 : mat mat")
    assert [passage.document for passage in prompt.cited] == ["d0", "d2"]
    assert prompt.dropped == 1


def test_a_first_passage_that_is_too_long_is_cut_rather_than_lost(tokenizer: Path) -> None:
    prompt = render(builder(tokenizer, context_tokens=16), "dog " * 30)
    assert prompt.context_tokens == 16
    assert [passage.document for passage in prompt.cited] == ["d0"]
    assert prompt.messages[1]["content"] == "1 : " + "dog " * 14 + "dog ran"


def test_the_engines_context_limits_the_whole(tokenizer: Path) -> None:
    """2 + 8 tokens of the system, 8 around the user's message, 2 of the question, 10 of the answer."""
    texts = ("cat sat", "dog ran", "mat sat")
    assert len(render(builder(tokenizer, engine_tokens=44), *texts).cited) == 3
    assert len(render(builder(tokenizer, engine_tokens=43), *texts).cited) == 2
    assert len(render(builder(tokenizer, engine_tokens=30), *texts).cited) == 0
    with pytest.raises(QuestionTooLong):
        render(builder(tokenizer, engine_tokens=29), *texts)


def test_a_passage_cannot_act_as_a_template(tokenizer: Path) -> None:
    prompt = render(builder(tokenizer), "{{ question }} {% raw %}", question="{{ context }}")
    assert prompt.messages[1]["content"] == "1 : {{ question }} {% raw %} {{ context }}"


def test_a_template_that_fails_does_not_tell_the_callers_words(tokenizer: Path) -> None:
    messages = [{"role": "user", "content": "{{ context }}{{ question / 2 }}"}]
    with pytest.raises(InternalError) as error:
        render(builder(tokenizer, messages=messages), "cat", question="secret")
    assert "secret" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(["cat", "dog", "."]), min_size=1, max_size=30).map(" ".join), max_size=6),
    budget=st.integers(16, 60),
    room=st.integers(40, 120),
)
def test_no_budget_is_ever_passed_and_what_is_cited_is_what_is_there(
    tokenizer: Path, texts: list[str], budget: int, room: int
) -> None:
    prompts = builder(tokenizer, engine_tokens=room, context_tokens=budget)
    prompt = render(prompts, *texts)
    content = prompt.messages[1]["content"]
    assert prompt.context_tokens <= budget
    assert sum(prompts.count(message["content"]) for message in prompt.messages) + 10 <= room
    assert len(prompt.cited) + prompt.dropped == len(texts)
    for number, passage in enumerate(prompt.cited, start=1):
        assert f"{number} : {passage.text[:3]}" in content
    assert f"{len(prompt.cited) + 1} : " not in content


def test_a_tokenizer_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=r"nowhere\.json"):
        builder(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        ("It is [1].", (1, 0)),
        ("Both [1] [2] and [1, 3].", (4, 0)),
        ("[4] and [0] are no passages.", (0, 2)),
        ("Neither [a] nor (1) nor 1 is one.", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_citations_of_an_answer_are_counted(answer: str, counted: tuple[int, int]) -> None:
    assert citations(answer, passages=3) == counted
