"""What the parts of the configuration say about each other."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from stack.gateway.config.assistants import Turn
from stack.gateway.config.routes import ModerationUse
from stack.gateway.config.upstreams import UpstreamName
from stack.gateway.templates import template_problems
from stack.settings import nearest

if TYPE_CHECKING:
    from stack.gateway.config import GatewayConfig


def problems_of(config: "GatewayConfig") -> Iterator[str]:
    """One line for each thing that does not fit together."""
    yield from _tenant_problems(config)
    yield from _template_problems(config)
    yield from _upstream_problems(config)


def used_upstreams(config: "GatewayConfig") -> frozenset[UpstreamName]:
    """The upstreams that some tenant's requests can reach."""
    used: set[UpstreamName] = {"llm"}
    if any(tenant.collections for tenant in config.tenants):
        used.add("rag")
    if any(True for _ in _uses_of_moderation(config)):
        used.add("moderation")
    return frozenset(used)


def _uses_of_moderation(config: "GatewayConfig") -> Iterator[str]:
    """The keys that need the moderation service, as far as some tenant can make use of them."""
    reachable = {name for tenant in config.tenants for name in tenant.assistants}
    for name, assistant in config.assistants.items():
        if name in reachable and _checks(assistant.moderation):
            yield f"assistants.{name}.moderation"
    if any(tenant.collections for tenant in config.tenants) and _checks(config.ask.moderation):
        yield "ask.moderation"
    for index, tenant in enumerate(config.tenants):
        if tenant.moderations:
            yield f"tenants.{index}.moderations"


def _checks(use: ModerationUse) -> bool:
    return "check" in (use.input, use.output)


def _tenant_problems(config: "GatewayConfig") -> Iterator[str]:
    names = [tenant.name for tenant in config.tenants]
    for name in _repeated(names):
        yield f"tenants: '{name}' is listed twice"
    for index, tenant in enumerate(config.tenants):
        for name in tenant.assistants:
            if name not in config.assistants:
                hint = nearest(name, config.assistants)
                yield f"tenants.{index}.assistants: unknown assistant '{name}'; {hint}"


def _template_problems(config: "GatewayConfig") -> Iterator[str]:
    for name, assistant in config.assistants.items():
        for index, message in enumerate(assistant.messages):
            if isinstance(message, Turn):
                for problem in template_problems(message.content, config.documents):
                    yield f"assistants.{name}.messages.{index}.content: {problem}"


def _upstream_problems(config: "GatewayConfig") -> Iterator[str]:
    if config.retrieval is None:
        for index, tenant in enumerate(config.tenants):
            if tenant.collections:
                yield f"tenants.{index}.collections: nothing can be searched without `retrieval`; add its base_url"
    if config.moderation is None:
        for path in _uses_of_moderation(config):
            yield f"{path}: nothing can be checked without `moderation`; add its base_url"
    if config.ask.name in config.assistants:
        yield f"ask.name: '{config.ask.name}' is an assistant too; choose a name that metrics can tell from it"


def _repeated(words: Iterable[str]) -> list[str]:
    words = list(words)
    return sorted({word for word in words if words.count(word) > 1})
