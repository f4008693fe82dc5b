"""Templates of prompts: Jinja2 in its sandbox, over a closed set of variables, checked when they are loaded."""

from collections.abc import Iterable

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import SandboxedEnvironment

from stack.settings import nearest

MESSAGE_VARIABLES = frozenset(
    {"context", "question", "collection", "tenant", "request_id", "received_at", "today"}
)  # fmt: skip
PASSAGE_VARIABLES = frozenset({"number", "title", "text", "document"})

_environment = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def compile_template(text: str) -> Template:
    """The template, ready to render. Its text has passed `template_problems`."""
    return _environment.from_string(text)


def template_problems(text: str, variables: Iterable[str]) -> list[str]:
    """What is wrong with a template, one line each: its syntax, unknown filters, unknown names."""
    try:
        tree = _environment.parse(text)
        _environment.from_string(text)
    except TemplateError as error:
        return [f"no valid template: {error.message}"]
    unknown = sorted(meta.find_undeclared_variables(tree) - set(variables))
    return [f"unknown variable '{name}'; {nearest(name, variables)}" for name in unknown]
