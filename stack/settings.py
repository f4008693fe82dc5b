"""Configuration files: YAML read into frozen pydantic models, with errors that say what, where, what to do.

Every service of the stack describes its file by a subclass of `Settings`. Durations are seconds, in keys
that end in `_seconds`; sizes are bytes, in keys that end in `_bytes`.
"""

import json
import types
import typing
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_FILE_BYTES = 1 << 20

T = TypeVar("T", bound=BaseModel)


class Settings(BaseModel):
    """Base of every configuration model: no unknown keys, no change after loading.

    The string literal under a field is its documentation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def Protected(default: Any = ..., **field: Any) -> Any:
    """A field that a learner may not change, with everything below it. Arguments are those of `Field`."""
    return Field(default, json_schema_extra={"protected": True}, **field)


class ConfigError(Exception):
    """A configuration that cannot be used.

    `path` is the file (or the name of the source); `problems` holds one line for each thing wrong.
    """

    def __init__(self, path: Path | str, problems: list[str]) -> None:
        super().__init__(path, problems)
        self.path = path
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


def load(path: Path, model: type[T]) -> T:
    """The file at `path` as `model`. Raises ConfigError with every problem found."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(path, [f"{path.name}: cannot read {path}: {error.strerror}"]) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"{path.name}: byte {error.start} is not valid UTF-8; save the file in UTF-8"
        raise ConfigError(path, [problem]) from error
    try:
        return parse(text, model, path.name)
    except ConfigError as error:
        raise ConfigError(path, error.problems) from error


def parse(text: str, model: type[T], source: str) -> T:
    """YAML `text` as `model`; `source` names the text in messages. Raises ConfigError.

    Values are taken strictly (no text for a number, no true for 1): a slip is an error, not a setting.
    """
    data = read_yaml(text, source)
    try:
        # By way of JSON: its strict mode still turns lists into tuples and text into paths.
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        found = describe(error, data, model)
        problems = [f"{source}: {path}: {text}" if path else f"{source}: {text}" for path, text in found]
        raise ConfigError(source, problems) from error


def describe(error: ValidationError, data: Any, model: type[BaseModel]) -> list[tuple[str, str]]:
    """What is wrong with `data` (JSON types) as a `model`: dotted path, empty for the whole, and problem.

    A validator that raises ValueError may report several problems, one a line.
    """
    problems: list[tuple[str, str]] = []
    errors = error.errors(include_url=False)
    for one in errors:
        depth = len(one["loc"])
        if one["type"] == "too_short" and any(e["loc"][:depth] == one["loc"] for e in errors if e is not one):
            continue  # pydantic does not count the entries that are wrong themselves
        path, message = _describe(one, data, model)
        problems += [(path, line) for line in message.splitlines()]
    return list(dict.fromkeys(problems))


def read_yaml(text: str, source: str) -> dict[str, Any]:
    """YAML `text` as a plain dict of JSON types. Raises ConfigError: too large, not YAML, no mapping."""
    if len(text.encode("utf-8", "replace")) > MAX_FILE_BYTES:
        raise ConfigError(source, [f"{source}: larger than {MAX_FILE_BYTES} bytes; is it the right file?"])
    try:
        data = yaml.load(text, _Loader)
        json.dumps(data)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(source, [f"{source}: {where}{error.problem or error.context}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError(source, [f"{source}: {' '.join(str(error).split())}"]) from error
    except RecursionError as error:
        raise ConfigError(source, [f"{source}: nested too deeply"]) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(source, [f"{source}: a value is no text, number, list or mapping: {error}"]) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(source, [f"{source}: expected keys and values, got {_shown(data)}"])
    return data


def protected_paths(model: type[BaseModel]) -> set[str]:
    """Dotted paths of the fields marked by Protected, outermost only; `*` is any key of a mapping."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        name = field.alias or name
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("protected"):
            found.add(name)
            continue
        middle = ".*." if typing.get_origin(field.annotation) is dict else "."
        for below in _models_in(field.annotation):
            found |= {f"{name}{middle}{path}" for path in protected_paths(below)}
    return found


def changed_paths(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    """Dotted paths of the leaves that differ. A list is one leaf; a key on one side only has changed."""
    before, after = _leaves(old), _leaves(new)
    absent = object()
    return {path for path in before.keys() | after.keys() if before.get(path, absent) != after.get(path, absent)}


def protected_changes(model: type[BaseModel], old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    """The changed paths that lie at or below a protected field of `model`."""
    patterns = [pattern.split(".") for pattern in protected_paths(model)]

    def covered(path: str) -> bool:
        parts = path.split(".")
        # A path shorter than the pattern is a whole sub-tree that came, went or changed its kind.
        return any(all(p in ("*", q) for p, q in zip(pattern, parts, strict=False)) for pattern in patterns)

    return {path for path in changed_paths(old, new) if covered(path)}


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """The help after "unknown …": the nearest of the known words, or all of them."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(known)}" if known else "none is known here"


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """A nested dict as dotted path -> value; lists and empty dicts are values."""
    if not isinstance(tree, dict) or not tree:
        return {path: tree}
    found: dict[str, Any] = {}
    for key, below in tree.items():
        found |= _leaves(below, f"{path}.{key}" if path else str(key))
    return found


class _Loader(yaml.SafeLoader):
    """Safe YAML without what a configuration never needs: duplicate keys, and aliases, which can explode."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"alias *{event.anchor} is not supported; write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key.value}' is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# Dates stay text: no setting is a date, and an unquoted one inside a list of words must not change its type.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path as text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
}


def _describe(error: Any, data: Any, model: type[BaseModel]) -> tuple[str, str]:
    """One pydantic error as dotted path and problem."""
    kind, loc = error["type"], error["loc"]
    path = _path_in(data, loc, keep_last=kind == "missing")
    if kind == "extra_forbidden":
        return path, f"unknown key; {nearest(str(loc[-1]), _known_keys(model, loc[:-1]))}"
    if kind == "missing":
        return path, "missing; this key is required"
    if kind == "value_error":
        return path, str(error["ctx"]["error"])
    if kind == "json_invalid":
        return path, "holds text that is no valid Unicode (a lone surrogate)"
    got = _shown(error["input"])
    if kind in _EXPECTED:
        return path, f"expected {_EXPECTED[kind].format(**error.get('ctx', {}))}, got {got}"
    if error["msg"].startswith("Input should be "):
        return path, f"expected {error['msg'].removeprefix('Input should be ')}, got {got}"
    return path, f"{error['msg']}, got {got}"


def _path_in(data: Any, loc: tuple[int | str, ...], keep_last: bool) -> str:
    """`loc` as a dotted path, without the names of union members that pydantic mixes in."""
    parts: list[str] = []
    for depth, part in enumerate(loc):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if not (keep_last and depth == len(loc) - 1):
                continue
        parts.append(str(part))
    return ".".join(parts)


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    """The keys of the models at `loc`, whose parts that name no field are indices, keys or tags."""
    here = [model]
    for part in loc:
        fields = [f for m in here for name, f in m.model_fields.items() if part == (f.alias or name)]
        if fields:
            here = [m for f in fields for m in _models_in(f.annotation)]
        else:
            here = [m for m in here if _is_tagged(m, part)] or here
    return {field.alias or name for m in here for name, field in m.model_fields.items()}


def _is_tagged(model: type[BaseModel], tag: int | str) -> bool:
    """Whether `tag` is the value of a field of `model` by which it is told apart from others."""
    literals = (f.annotation for f in model.model_fields.values() if typing.get_origin(f.annotation) is typing.Literal)
    return any(tag in typing.get_args(literal) for literal in literals)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models inside an annotation such as `list[A | B]` or `dict[str, A] | None`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [m for argument in typing.get_args(annotation) for m in _models_in(argument)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
