"""Tier 3: what the language model is asked, the one token that it may answer, and how that becomes a probability."""

import math
from collections.abc import Mapping
from typing import Any

RULES = (
    "You are a content moderator. Decide whether the text below breaks the rules. The rules forbid insults, "
    "harassment, hate, threats, sexual abuse and obscene abuse of people. Quoting, reporting or discussing such "
    "things is allowed. Answer with one word: yes if the text breaks the rules, no if it does not."
)
YES, NO = "yes", "no"
MAX_TOKENS, TOP_LOGPROBS = 1, 20


def messages(text: str) -> list[dict[str, str]]:
    """The chat that asks about `text`. The rules come first, so that all requests share their prefix."""
    return [{"role": "system", "content": RULES}, {"role": "user", "content": f"Text: {text}\n\nAnswer yes or no."}]


def request(model: str, text: str) -> dict[str, Any]:
    """The body of POST /v1/chat/completions."""
    return {
        "model": model,
        "messages": messages(text),
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": TOP_LOGPROBS,
    }


def probability(body: Mapping[str, Any]) -> float | None:
    """P(yes) / (P(yes) + P(no)) from the response's first token; None when neither is among its likeliest tokens."""
    try:
        top = body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        words = [(str(one["token"]).strip().lower(), float(one["logprob"])) for one in top]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    yes = sum(math.exp(p) for word, p in words if word == YES)
    no = sum(math.exp(p) for word, p in words if word == NO)
    return yes / (yes + no) if yes + no > 0 else None
