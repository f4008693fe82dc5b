"""Tier 3: what the language model is asked, the one token that it may answer, and how that becomes a probability."""

import math
from collections.abc import Mapping
from typing import Any

RULES = (
    "You moderate content. Answer yes if the text insults, threatens, degrades or demeans people, or is obscene. "
    "Answer no if it is harmless, or only reports, explains or criticises. One word: yes or no."
)
YES, NO = "yes", "no"
MAX_TOKENS, TOP_LOGPROBS = 1, 20


def messages(text: str) -> list[dict[str, str]]:
    """The chat that asks about `text`. The rules come first, so that all requests share their prefix."""
    return [{"role": "system", "content": RULES}, {"role": "user", "content": text}]


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
