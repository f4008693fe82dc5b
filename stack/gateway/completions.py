"""The chat routes: a body becomes the engine's request by way of an assistant's prompt."""

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.gateway.body import parse
from stack.gateway.call import Call
from stack.gateway.chat import ChatRequest, engine_request
from stack.gateway.config.tenants import Tenant
from stack.gateway.errors import AssistantNotAllowed, UnknownAssistant
from stack.gateway.gateway import Gateway
from stack.gateway.passing import Passed, read
from stack.gateway.prompts import Asked
from stack.gateway.quotas import estimated_tokens
from stack.settings import nearest

CHAT = "/v1/chat/completions"


class Completions:
    """What the chat routes do with their bodies."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._allowed = {tenant.name: frozenset(tenant.assistants) for tenant in gateway.config.tenants}

    def prepare(self, body: bytes, call: Call, _: Tenant) -> Passed:
        """The engine's request. Raises Refused."""
        config = self._gateway.config
        chat = self._rendered(body, call)
        sent = engine_request(config, chat, call.prompt)
        return Passed(
            path=CHAT,
            content=json.dumps(sent, ensure_ascii=False).encode(),
            stream=bool(chat.stream),
            keep_usage=chat.wants_usage,
            texts=chat.texts,
            moderation=config.assistants[chat.model].moderation,
            prompt_tokens=estimated_tokens(sum(len(message["content"]) for message in call.prompt)),
            answer_tokens=sent["max_tokens"],
            audited=True,
        )

    async def render(self, request: Request) -> Response:
        """The messages that the engine would get, without asking it."""
        call, _ = self._gateway.authenticate(request)
        self._rendered(await read(request, call, self._gateway), call)
        return JSONResponse({"messages": call.prompt, "request_id": call.ids.request_id})

    async def models(self, request: Request) -> Response:
        """The caller's assistants, as OpenAI lists models."""
        call, _ = self._gateway.authenticate(request)
        listed = [
            {"id": name, "object": "model", "created": 0, "owned_by": "gateway"}
            for name in sorted(self._allowed[call.tenant])
        ]
        return JSONResponse({"object": "list", "data": listed})

    def _rendered(self, body: bytes, call: Call) -> ChatRequest:
        """What the caller asks for; the messages for the engine are in `call`. Raises Refused."""
        chat = parse(body, ChatRequest)
        self._admit(chat.model, call)
        asked = Asked(
            question=chat.question,
            history=chat.history,
            metadata=chat.metadata or {},
            tenant=call.tenant,
            request_id=call.ids.request_id,
            received_at=call.received_at,
        )
        call.prompt = self._gateway.prompts.render(chat.model, asked)
        return chat

    def _admit(self, assistant: str, call: Call) -> None:
        allowed = self._allowed[call.tenant]
        if assistant not in self._gateway.config.assistants:
            raise UnknownAssistant(f"unknown assistant '{assistant}'; {nearest(assistant, allowed)}", "model")
        call.assistant = assistant
        if assistant not in allowed:
            raise AssistantNotAllowed(f"tenant {call.tenant} may not use the assistant '{assistant}'", "model")
