"""Prompt templates: Jinja2 in its sandbox, over a closed set of variables, checked when they are loaded."""

from collections.abc import Iterator, Mapping

from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import SandboxedEnvironment

from stack.settings import nearest

VARIABLES = frozenset({"question", "tenant", "request_id", "received_at", "today", "metadata", "documents"})
_NAMESPACES = ("documents", "metadata")

_environment = SandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


class Names:
    """What `documents.NAME` and `metadata.NAME` look up; unlike a dict it has no methods that hide a name."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        """The text of that name; a name without a text is empty (unknown documents are refused at load)."""
        return self._values.get(name, "")


def compile_template(text: str) -> Template:
    """The template, ready to render. Its text has passed `template_problems`."""
    return _environment.from_string(text)


def template_problems(text: str, documents: Mapping[str, str]) -> list[str]:
    """What is wrong with a template, one line each: its syntax, unknown filters, unknown names."""
    try:
        tree = _environment.parse(text)
        _environment.from_string(text)
    except TemplateError as error:
        return [f"no valid template: {error.message}"]
    unknown = sorted(meta.find_undeclared_variables(tree) - VARIABLES)
    problems = [f"unknown variable '{name}'; {nearest(name, VARIABLES)}" for name in unknown]
    return problems + list(_namespace_problems(tree, documents))


def _namespace_problems(tree: nodes.Template, documents: Mapping[str, str]) -> Iterator[str]:
    """Uses of documents and metadata that would render something else than one text."""
    named: list[nodes.Name] = []
    for access in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if not (isinstance(access.node, nodes.Name) and access.node.name in _NAMESPACES):
            continue
        name = access.attr if isinstance(access, nodes.Getattr) else getattr(access.arg, "value", None)
        if not isinstance(name, str):
            continue
        named.append(access.node)
        if access.node.name == "documents" and name not in documents:
            yield f"unknown document '{name}'; {nearest(name, documents)}"
    for use in tree.find_all(nodes.Name):
        if use.name in _NAMESPACES and not any(use is node for node in named):
            yield f"'{use.name}' by itself is no text; write {use.name}.NAME"
