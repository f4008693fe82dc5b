"""The routes that retrieval and moderation answer: their bodies are held against the configuration, and passed on."""

import json
from typing import Any

from stack.gateway.body import parse
from stack.gateway.call import Call
from stack.gateway.config import GatewayConfig
from stack.gateway.config.tenants import Tenant
from stack.gateway.errors import BadRequest, CollectionNotAllowed, RouteNotAllowed
from stack.gateway.moderation import PATH as MODERATIONS
from stack.gateway.passing import Passed
from stack.gateway.questions import AskRequest, ModerationRequest, SearchRequest
from stack.gateway.quotas import estimated_tokens

SEARCH, ASK = "/v1/search", "/v1/ask"


class Lookups:
    """What these routes do with their bodies."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config

    def search(self, body: bytes, call: Call, tenant: Tenant) -> Passed:
        """A search of documents. Raises Refused."""
        config = self._config.search
        wanted = parse(body, SearchRequest)
        _may_use(tenant, wanted.collection)
        _not_longer("query", wanted.query, config.query_chars, "search.query_chars")
        if wanted.limit is not None and wanted.limit > config.limit:
            raise BadRequest(f"limit: at most {config.limit} passages may be asked for", "limit")
        call.prompt = [{"role": "user", "content": wanted.query}]
        return Passed(SEARCH, _content(wanted.model_dump(exclude_none=True)))

    def ask(self, body: bytes, call: Call, tenant: Tenant) -> Passed:
        """A question that documents answer. Raises Refused."""
        config = self._config.ask
        asked = parse(body, AskRequest)
        call.assistant = config.name
        _may_use(tenant, asked.collection)
        _not_longer("question", asked.question, config.question_chars, "ask.question_chars")
        call.prompt = [{"role": "user", "content": asked.question}]
        stream, answer_tokens = bool(asked.stream), min(asked.max_tokens or config.max_tokens, config.max_tokens)
        sent = asked.model_dump(exclude_none=True) | {"stream": stream, "max_tokens": answer_tokens}
        return Passed(
            ASK,
            _content(sent),
            stream=stream,
            texts=(asked.question,),
            moderation=config.moderation,
            prompt_tokens=config.context_tokens + estimated_tokens(len(asked.question)),
            answer_tokens=answer_tokens,
        )

    def moderations(self, body: bytes, call: Call, _: Tenant) -> Passed:
        """Texts to be judged. Raises Refused."""
        wanted = parse(body, ModerationRequest)
        most = self._config.limits.prompt_chars
        length = sum(len(text) for text in wanted.input)
        if length > most:
            raise BadRequest(f"input: has {length} characters, at most {most} are allowed; send fewer texts", "input")
        call.prompt = [{"role": "user", "content": text} for text in wanted.input]
        return Passed(MODERATIONS, _content(wanted.model_dump(exclude_none=True)))


def may_search(tenant: Tenant) -> None:
    """Raises RouteNotAllowed."""
    if not tenant.collections:
        raise RouteNotAllowed(f"tenant {tenant.name} may use no collection of documents")


def may_moderate(tenant: Tenant) -> None:
    """Raises RouteNotAllowed."""
    if not tenant.moderations:
        raise RouteNotAllowed(f"tenant {tenant.name} may not ask for moderations")


def _may_use(tenant: Tenant, collection: str) -> None:
    if collection not in tenant.collections:
        names = ", ".join(sorted(tenant.collections))
        raise CollectionNotAllowed(f"tenant {tenant.name} may use these collections: {names}", "collection")


def _not_longer(param: str, text: str, most: int, key: str) -> None:
    if len(text) > most:
        raise BadRequest(f"{param}: has {len(text)} characters, at most {most} are allowed ({key})", param)


def _content(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
