"""Canary prompts: an engine may serve only when it answers as the reference implementation does.

An engine can be up, fast and wrong: damaged weights, a miscompiled kernel, another tokenizer. So readiness asks it
chat prompts of many lengths and compares tokens with what `transformers` generates greedily in float32. Only answers
whose every token wins by a wide margin are kept as references, so that bfloat16 rounding cannot flip one.

`python -m stack.llm.canary --model DIR` makes the references again (in the engine's environment).
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

REFERENCES = Path(__file__).parent / "canaries.json"
LENGTHS = (16, 40, 64, 100, 128, 160, 256, 400, 512, 700, 1024)  # prompt tokens, about; both sides of block sizes
ANSWER_TOKENS = 8
MARGIN = 0.6  # logits between the best and the second token, in float32


@dataclass(frozen=True)
class Canary:
    """One prompt, the ids that the chat template and tokenizer must make of it, and the reference answer."""

    messages: tuple[dict[str, str], ...]
    prompt_tokens: int
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Mismatch:
    """A canary that was answered otherwise; `got` is None when there was no answer at all."""

    prompt_tokens: int
    expected: tuple[int, ...]
    got: tuple[int, ...] | None
    reason: str


def load_references(path: Path = REFERENCES) -> list[Canary]:
    """The stored canaries, shortest first; raises OSError or ValueError."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["canaries"]
        return [Canary(tuple(e["messages"]), e["prompt_tokens"], tuple(e["answer"])) for e in entries]
    except (KeyError, TypeError) as problem:
        raise ValueError(f"{path}: no canaries as `python -m stack.llm.canary` writes them: {problem!r}") from problem


async def ask_all(base_url: str, model: str, canaries: list[Canary], timeout_seconds: float = 60) -> list[Mismatch]:
    """Ask the engine at `base_url` each canary in turn; an empty list means that all answers were the reference's.

    One after the other: in a batch the lengths would mix, and a fault that depends on the length could hide.
    """
    async with httpx.AsyncClient(base_url=base_url, timeout=timeout_seconds, trust_env=False) as client:
        found = [await _ask(client, model, canary) for canary in canaries]
    return [mismatch for mismatch in found if mismatch]


async def _ask(client: httpx.AsyncClient, model: str, canary: Canary) -> Mismatch | None:
    body = {
        "model": model,
        "messages": list(canary.messages),
        "max_tokens": len(canary.answer),
        "temperature": 0.0,
        "return_token_ids": True,
    }
    try:
        answer = (await client.post("/v1/chat/completions", json=body)).raise_for_status().json()
        got = tuple(answer["choices"][0]["token_ids"])[: len(canary.answer)]
        prompt_tokens = answer["usage"]["prompt_tokens"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as problem:
        return Mismatch(canary.prompt_tokens, canary.answer, None, f"no answer: {problem!r}")
    if prompt_tokens != canary.prompt_tokens:
        return Mismatch(canary.prompt_tokens, canary.answer, got, f"the prompt became {prompt_tokens} tokens")
    if got != canary.answer:
        return Mismatch(canary.prompt_tokens, canary.answer, got, "other tokens than the reference")
    return None


# --- making the references ---------------------------------------------------------------------------------------

_QUESTIONS = (
    "Is water wet?",
    "Capital of France?",
    "What is 2 plus 2?",
    "What is the capital of France?",
    "What is the capital of Italy?",
    "Which planet is known as the red planet?",
    "How many days are there in a week?",
    "What is the largest ocean on Earth?",
    "What colour is the sky on a clear day?",
    "Which gas do plants take in from the air?",
    "What is the freezing point of water in degrees Celsius?",
)
_FILLER = (
    "The ferry leaves the north quay at seven and comes back before noon.",
    "Bread is sold in the hall beside the old crane from early morning.",
    "A bell is rung twice when fog closes the inner basin.",
    "The keeper of the light writes the height of the tide in a blue book.",
    "On market days the tram runs every nine minutes past the library.",
    "Nets are dried on the long wall, and children count the gulls there.",
    "The museum keeps a model of the first iron bridge over the canal.",
    "Rain water is led from the roofs into a cistern under the square.",
)


def make_references(model_folder: Path) -> list[Canary]:
    """For each length the first prompt whose greedy float32 answer has no token closer than MARGIN to the next."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    found = []
    for length in LENGTHS:
        candidates = (
            candidate
            for shift in range(0, len(_FILLER), 2)
            for question in _QUESTIONS
            if (candidate := _candidate(tokenizer, model, question, length, shift))
        )
        canary = _first_new(candidates, {canary.answer for canary in found})
        if canary is None:
            raise RuntimeError(f"no prompt of about {length} tokens has an answer with margin {MARGIN}")
        print(f"{canary.prompt_tokens:5} tokens: {tokenizer.decode(list(canary.answer))!r}", file=sys.stderr)
        found.append(canary)
    return found


def _first_new(candidates: Iterator[Canary], known: set[tuple[int, ...]]) -> Canary | None:
    """The first candidate with an answer that no other canary has, else the first; each costs a generation."""
    first = None
    for candidate in candidates:
        if candidate.answer not in known:
            return candidate
        first = first or candidate
    return first


def _candidate(tokenizer, model, question: str, length: int, shift: int) -> Canary | None:
    import torch

    def prompt(sentences: int) -> tuple[tuple[dict[str, str], ...], list[int]]:
        filler = " ".join(_FILLER[(shift + i) % len(_FILLER)] for i in range(sentences))
        messages = [{"role": "system", "content": ""}]
        messages.append({"role": "user", "content": f"{filler}\n\n{question}" if filler else question})
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        return tuple(messages), list(ids)

    sentences = 0
    while len(prompt(sentences + 1)[1]) <= length:
        sentences += 1
    messages, ids = prompt(sentences)
    with torch.inference_mode():
        made = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    best = torch.stack(made.logits)[:, 0].topk(2).values
    margin = (best[:, 0] - best[:, 1]).min().item()
    answer = tuple(made.sequences[0, len(ids) :].tolist())
    return Canary(messages, len(ids), answer) if margin >= MARGIN else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stack.llm.canary", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, help="model folder: make the references again with transformers")
    source.add_argument("--ask", metavar="URL", help="ask a running engine the stored canaries")
    parser.add_argument("--name", default="smollm2-135m-instruct", help="served model name, with --ask")
    arguments = parser.parse_args()
    if arguments.ask:
        mismatches = asyncio.run(ask_all(arguments.ask, arguments.name, load_references()))
        for mismatch in mismatches:
            print(mismatch)
        return 1 if mismatches else 0
    canaries = [asdict(canary) for canary in make_references(arguments.model)]
    REFERENCES.write_text(json.dumps({"schema": 1, "canaries": canaries}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
