"""What a suite asks: the gateway, as a caller does, and the engine where a model judges."""

import asyncio
import copy
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

from stack.evals.example import Failure
from stack.settings import nearest

RETRIED = {429, 503}
"""Refusals that ask to come again."""
HELD = {"under_review", "content_filter"}
"""What the gateway says when moderation keeps a text back."""
TRIES, PAUSE_SECONDS = 4, 0.5
SAMPLED = 0.7  # temperature of a judge that is asked again
SECONDS = httpx.Timeout(90.0, connect=5.0)
LISTING_SECONDS = 10.0


class Failed(Exception):
    """An example was not answered; the message says what came instead."""

    failure: ClassVar[Failure] = "stack"


class Unreachable(Failed):
    """Nobody listens."""

    failure = "way"


class JudgeFailed(Failed):
    """The judging model gave no verdict."""

    failure = "judge"


class Held(Failed):
    """Moderation kept the request or its answer back: that is an answer too, and may be the wrong one."""


@dataclass(frozen=True)
class Places:
    """Where examples come from: the folders of the data packages and of the manuals."""

    data: Path
    manuals: Path


@dataclass(frozen=True)
class JudgeEndpoint:
    """An OpenAI-compatible endpoint, without /v1, and its model."""

    url: str
    model: str = "smollm2-135m-instruct"
    key: str | None = None
    sample: int = 0
    """0 takes its likeliest verdicts, another number the drawn ones of that seed: how it judges a second time."""
    own: bool = False
    """The release's own engine, whose port is another one each time."""

    @property
    def identity(self) -> str:
        """Equal for endpoints that give the same verdicts."""
        return f"{'' if self.own else self.url} {self.model} {self.sample}"


def missing(judge: JudgeEndpoint) -> str | None:
    """Why `judge` cannot be asked, as the rest of a sentence about it; None where it lists the model.

    https://platform.openai.com/docs/api-reference/models/list
    """
    url = f"{judge.url.rstrip('/')}/v1/models"
    headers = _bearer(judge.key) if judge.key else {}
    try:
        answer = httpx.get(url, headers=headers, timeout=LISTING_SECONDS, trust_env=False).raise_for_status()
        models = [str(one["id"]) for one in answer.json()["data"]]
    except httpx.HTTPStatusError as problem:
        status = problem.response.status_code
        hints = {401: ": is the key in EVAL_JUDGE_KEY?", 403: ": may the key in EVAL_JUDGE_KEY do that?",
                 404: ": the URL is the one without /v1"}  # fmt: skip
        return f"{url} answered {status}{hints.get(status, '')}"
    except (httpx.HTTPError, httpx.InvalidURL) as problem:
        return f"cannot be reached ({type(problem).__name__}: {problem})"
    except (LookupError, TypeError, ValueError) as problem:
        return f"{url} is no list of models ({type(problem).__name__})"
    return None if judge.model in models else f"has no model '{judge.model}'; {nearest(judge.model, models)}"


@dataclass(frozen=True)
class Addresses:
    """Where the stack is, and as whom it is asked."""

    gateway: str
    key: str
    assistant: str = "reading-desk"
    judge: JudgeEndpoint | None = None
    moderation_without_judge: str | None = None
    """Moderation with the release's configuration, whose language model cannot be reached."""
    gateway_without_moderation: str | None = None
    """The gateway with the release's configuration, whose moderation cannot be reached."""
    gateway_that_stops_answers: str | None = None
    """The gateway with the release's configuration, which has no question looked at, and whose moderation stops all."""


class Stack:
    """Asks the services behind `addresses`. Use as a context manager."""

    def __init__(self, addresses: Addresses, before: Mapping[str, str] | None = None) -> None:
        """`before`: answers of the baseline by example, which a judge compares with those of now."""
        self.addresses = addresses
        self.before = before or {}
        self._refusals = [0]
        self._client = httpx.AsyncClient(timeout=SECONDS, trust_env=False)

    async def __aenter__(self) -> "Stack":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @property
    def refusals(self) -> int:
        """How often the release said "not now"."""
        return self._refusals[0]

    def for_example(self) -> "Stack":
        """The same, with a count of its own."""
        one = copy.copy(self)
        one._refusals = [0]
        return one

    def where_answers_are_stopped(self) -> "Stack":
        """The same, count included, at the gateway whose moderation stops whatever it is asked about. Raises Failed."""
        if self.addresses.gateway_that_stops_answers is None:
            raise Failed("no gateway that stops answers was started")
        other = copy.copy(self)
        other.addresses = replace(self.addresses, gateway=self.addresses.gateway_that_stops_answers)
        return other

    async def search(self, collection: str, query: str, limit: int | None = None) -> dict[str, Any]:
        """Passages, as many as the collection gives its users; `limit` of them with the places that each stage gave
        them. Raises Failed."""
        more = {} if limit is None else {"limit": limit, "stages": True}
        return await self._gateway("/v1/search", {"collection": collection, "query": query} | more)

    async def ask(self, collection: str, question: str, max_tokens: int | None = None) -> dict[str, Any]:
        """An answer from passages, with what it may cite. Raises Failed."""
        body = {"collection": collection, "question": question}
        return await self._gateway("/v1/ask", body | ({"max_tokens": max_tokens} if max_tokens else {}))

    async def chat(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        """The next message of a conversation. Raises Failed."""
        return await self._gateway("/v1/chat/completions", {"model": self.addresses.assistant, "messages": messages})

    async def rendered(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        """The messages that the engine would get for a conversation. Raises Failed."""
        body = {"model": self.addresses.assistant, "messages": messages}
        return (await self._gateway("/v1/prompts/render", body))["messages"]

    async def chat_streamed(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        """The same as a stream: its text, seconds to its first words, how it ended, the tokens that its end tells, and
        the passages that it may cite where there are any. Raises Failed."""
        body = {"model": self.addresses.assistant, "messages": messages}
        return await self._streamed("/v1/chat/completions", body)

    async def ask_streamed(self, collection: str, question: str, max_tokens: int | None = None) -> dict[str, Any]:
        """An answer from passages as a stream, likewise. Raises Failed; Held where moderation ends it."""
        body = {"collection": collection, "question": question}
        return await self._streamed("/v1/ask", body | ({"max_tokens": max_tokens} if max_tokens else {}))

    async def _streamed(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        url, begun = f"{self.addresses.gateway}{path}", time.perf_counter()
        request = {"json": body | {"stream": True}, "headers": _bearer(self.addresses.key)}
        attempt = 0
        try:
            while True:
                attempt += 1
                async with self._client.stream("POST", url, **request) as response:
                    if await self._come_again(response, attempt):
                        continue
                    if response.status_code != httpx.codes.OK:
                        await response.aread()
                        raise _refused(url, response)
                    return await _read_stream(url, response, begun)
        except httpx.HTTPError as problem:
            raise _failed(url, problem) from problem

    async def moderate(self, *texts: str) -> dict[str, Any]:
        """What moderation decides about the last of the texts that it is given at once. Raises Failed."""
        asked = texts[0] if len(texts) == 1 else list(texts)
        return (await self._gateway("/v1/moderations", {"input": asked}))["results"][len(texts) - 1]

    async def moderate_without_judge(self, text: str) -> dict[str, Any]:
        """The same where the language model cannot be reached. Raises Failed."""
        url = self.addresses.moderation_without_judge
        if url is None:
            raise Failed("no moderation without its judge was started")
        return (await self._post(f"{url}/v1/moderations", {"input": text}, {}))["results"][0]

    async def refusal_without_moderation(self, collection: str, question: str) -> str | None:
        """The error's code where moderation cannot be reached; None for an answer. Raises Failed."""
        url = self.addresses.gateway_without_moderation
        if url is None:
            raise Failed("no gateway without its moderation was started")
        body = {"collection": collection, "question": question, "max_tokens": 1}
        response = await self._send("POST", f"{url}/v1/ask", json=body, headers=_bearer(self.addresses.key))
        if response.status_code == httpx.codes.OK:
            return None
        return _code_in(response) or f"status {response.status_code}"

    async def checks(self) -> dict[str, float]:
        """How many texts the gateway has had checked by moderation so far, by stage: input, output. Raises Failed."""
        url = f"{self.addresses.gateway}/metrics"
        response = await self._send("GET", url)
        if response.status_code != httpx.codes.OK:
            raise Failed(f"{url} answered {response.status_code}")
        found = {"input": 0.0, "output": 0.0}
        for family in text_string_to_metric_families(response.text):
            for sample in family.samples:
                if sample.name == "gateway_moderation_total":
                    found[sample.labels["stage"]] += sample.value
        return found

    async def judge(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion of the judging model. Raises Failed."""
        judge = self.addresses.judge
        if judge is None:
            raise JudgeFailed("no judge: give its address")
        headers = _bearer(judge.key) if judge.key else {}
        url = f"{judge.url.rstrip('/')}/v1/chat/completions"
        if judge.sample:
            body = body | {"temperature": SAMPLED, "seed": 1000 * judge.sample + body.get("seed", 0)}
        try:
            return await self.for_example()._post(url, {"model": judge.model, **body}, headers)
        except Failed as failed:
            raise JudgeFailed(str(failed)) from failed

    async def _gateway(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._post(f"{self.addresses.gateway}{path}", body, _bearer(self.addresses.key))

    async def _post(self, url: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        for attempt in range(1, TRIES + 1):
            response = await self._send("POST", url, json=body, headers=headers)
            if not await self._come_again(response, attempt):
                break
        if response.status_code != httpx.codes.OK:
            raise _refused(url, response)
        try:
            answer = response.json()
        except ValueError as problem:
            raise Failed(f"{url} answered no JSON: {response.text[:100]}") from problem
        if not isinstance(answer, dict):
            raise Failed(f"{url} answered no object: {response.text[:100]}")
        return answer

    async def _come_again(self, response: httpx.Response, attempt: int) -> bool:
        """Whether to ask once more, after a pause, since the answer was "not now"; that is counted."""
        if response.status_code not in RETRIED:
            return False
        self._refusals[0] += 1
        if attempt == TRIES:
            return False
        await asyncio.sleep(PAUSE_SECONDS * attempt)
        return True

    async def _send(self, method: str, url: str, **request: Any) -> httpx.Response:
        try:
            return await self._client.request(method, url, **request)
        except httpx.HTTPError as problem:
            raise _failed(url, problem) from problem


async def _read_stream(url: str, response: httpx.Response, begun: float) -> dict[str, Any]:
    """What a stream of a request that was first sent at `begun` tells. Raises Failed."""
    first, text, finish = None, "", None
    told: dict[str, Any] = {}
    async for line in response.aiter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            kind = Held if _code(event) in HELD else Failed
            raise kind(f"{url} broke off: {str(event['error'])[:300]}")
        told |= {name: event[name] for name in ("usage", "citations") if event.get(name) is not None}
        for choice in event["choices"]:
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
        first = first or (time.perf_counter() - begun if text else None)
    if finish is None or first is None:
        raise Failed(f"{url}: the stream ended without {'an end' if finish is None else 'a word'}")
    return {"text": text, "first_words": first, "finish": finish} | told


def _failed(url: str, problem: httpx.HTTPError) -> Failed:
    kind = Unreachable if isinstance(problem, httpx.ConnectError) else Failed
    return kind(f"{url}: {type(problem).__name__} {problem}".rstrip())


def _refused(url: str, response: httpx.Response) -> Failed:
    kind = Held if _code_in(response) in HELD else Failed
    return kind(f"{url} answered {response.status_code}: {response.text[:300]}")


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _code_in(response: httpx.Response) -> str | None:
    """The code of an error that was answered."""
    try:
        return _code(response.json())
    except ValueError:
        return None


def _code(told: Any) -> str | None:
    """The code of an error in OpenAI's shape."""
    try:
        return told["error"]["code"]
    except (KeyError, TypeError):
        return None
