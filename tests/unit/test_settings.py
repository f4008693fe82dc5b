"""Configuration files: what is accepted, and what the errors say."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from stack.settings import (
    MAX_FILE_BYTES,
    ConfigError,
    Protected,
    Settings,
    changed_paths,
    load,
    parse,
    protected_changes,
    protected_paths,
)


class Listen(Settings):
    host: str = "127.0.0.1"
    port: int = Field(8100, ge=1, le=65535)


class Circle(Settings):
    kind: Literal["circle"]
    radius: float


class Square(Settings):
    kind: Literal["square"]
    side: float


class Limits(Settings):
    body_bytes: int = 65536
    words: tuple[str, ...] = ()
    strict: bool = False
    ceiling: int = Protected(10)

    @model_validator(mode="after")
    def _even(self) -> "Limits":
        if self.body_bytes % 2:
            raise ValueError("body_bytes must be even")
        return self


class Service(Settings):
    version: Literal[1] = Field(alias="schema")
    listen: Listen = Protected(Listen())
    limits: Limits = Limits()
    level: Literal["info", "debug"] = "info"
    shapes: tuple[Annotated[Circle | Square, Field(discriminator="kind")], ...] = ()
    routes: dict[str, Limits] = Field(default_factory=dict)
    stop: str | tuple[str, ...] | None = None
    folder: Path = Path("data")


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, Service, "service.yaml")
    return caught.value.problems


def test_a_valid_file_becomes_a_frozen_model(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("schema: 1\nlimits: {body_bytes: 2, words: [a, b]}\nfolder: x/y\n")
    service = load(file, Service)
    assert service.limits.words == ("a", "b")
    assert service.folder == Path("x/y")
    with pytest.raises(ValueError, match="frozen"):
        service.level = "debug"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("limits: {body_byte: 1}", "service.yaml: limits.body_byte: unknown key; did you mean 'body_bytes'?"),
        ("listen: {zzz: 1}", "service.yaml: listen.zzz: unknown key; known: host, port"),
        (
            "limits: {body_bytes: many}",
            "service.yaml: limits.body_bytes: expected a whole number, got 'many'",
        ),
        ("limits: {body_bytes: true}", "service.yaml: limits.body_bytes: expected a whole number, got True"),
        ("limits: {body_bytes: '8'}", "service.yaml: limits.body_bytes: expected a whole number, got '8'"),
        ("limits: {body_bytes: 1.5}", "service.yaml: limits.body_bytes: expected a whole number, got 1.5"),
        ("limits: {strict: maybe}", "service.yaml: limits.strict: expected true or false, got 'maybe'"),
        ("limits: 3", "service.yaml: limits: expected keys and values, got 3"),
        ("limits: {body_bytes: 3}", "service.yaml: limits: body_bytes must be even"),
        ("listen: {port: 0}", "service.yaml: listen.port: expected greater than or equal to 1, got 0"),
        ("level: inof", "service.yaml: level: expected 'info' or 'debug', got 'inof'"),
        ("shapes: [{kind: circle}]", "service.yaml: shapes.0.radius: missing; this key is required"),
        (
            "shapes: [{kind: circle, radius: .inf}]",
            "service.yaml: shapes.0.radius: expected a finite number, got inf",
        ),
        (
            "shapes: [{kind: circle, radius: 1, radios: 2}]",
            "service.yaml: shapes.0.radios: unknown key; did you mean 'radius'?",
        ),
        (
            "shapes: [{kind: circle, radius: 1, side: 2}]",
            "service.yaml: shapes.0.side: unknown key; known: kind, radius",
        ),
        ("routes: {a: {wrods: []}}", "service.yaml: routes.a.wrods: unknown key; did you mean 'words'?"),
        ("level: {a: 1}", "service.yaml: level: expected 'info' or 'debug', got {'a': 1}"),
    ],
)
def test_a_problem_names_the_file_the_key_and_what_is_expected(text: str, problem: str) -> None:
    assert problems(f"schema: 1\n{text}\n") == [problem]


def test_every_problem_is_reported_at_once() -> None:
    found = problems("limits: {body_byte: 1}\nlevel: loud\n")
    assert len(found) == 3  # schema is missing, too
    assert str(ConfigError("x", found)) == "\n".join(found)


def test_a_key_given_twice_is_an_error_with_its_line() -> None:
    assert problems("schema: 1\nlevel: info\nlevel: debug\n") == [
        "service.yaml: line 3, column 1: key 'level' is given twice"
    ]


def test_an_alias_is_refused_so_that_no_file_can_explode() -> None:
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\n"
    assert problems(bomb) == ["service.yaml: line 2, column 8: alias *a is not supported; write the value out"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("level: [info", "line 1"),
        ("- a\n- b\n", "expected keys and values, got ['a', 'b']"),
        ("level: !!python/object:os.system x", "could not determine a constructor"),
        ("level: !!binary aGk=", "no text, number, list or mapping"),
        ('level: "\\ud800"', "no valid Unicode"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: \x01", "special characters are not allowed"),
    ],
)
def test_text_that_is_no_configuration_is_a_clear_error(text: str, says: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("service.yaml: ")
    assert says in problem


def test_an_empty_file_reports_the_keys_it_lacks() -> None:
    assert problems("") == ["service.yaml: schema: missing; this key is required"]


def test_an_unquoted_date_stays_text() -> None:
    assert parse("schema: 1\nlimits: {words: [2024-01-02]}", Service, "x").limits.words == ("2024-01-02",)


def test_a_missing_file_is_named_with_its_whole_path(tmp_path: Path) -> None:
    file = tmp_path / "none.yaml"
    with pytest.raises(ConfigError) as caught:
        load(file, Service)
    assert caught.value.path == file
    assert str(caught.value) == f"none.yaml: cannot read {file}: No such file or directory"


def test_broken_utf8_is_named_by_its_byte(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_bytes(b"schema: 1 # \xff")
    with pytest.raises(ConfigError, match=r"service\.yaml: byte 12 is not valid UTF-8"):
        load(file, Service)


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_bytes(b"schema: 1\n#" + b"x" * MAX_FILE_BYTES)
    with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
        load(file, Service)


def test_protected_paths_are_the_outermost_and_reach_into_mappings() -> None:
    assert protected_paths(Service) == {"listen", "limits.ceiling", "routes.*.ceiling"}


def test_changed_paths_are_dotted_leaves() -> None:
    old = {"a": 1, "b": {"c": 2, "d": [1, 2]}, "gone": {"x": 1}}
    new = {"a": 1, "b": {"c": 3, "d": [2, 1]}, "new": {}}
    assert changed_paths(old, new) == {"b.c", "b.d", "gone.x", "new"}
    assert changed_paths(old, old) == set()


def test_protected_changes_are_those_at_or_below_a_protected_field() -> None:
    old = {"listen": {"port": 1}, "limits": {"ceiling": 1, "strict": True}, "routes": {"a": {"ceiling": 1}}}
    new = {"listen": {"port": 2}, "limits": {"ceiling": 1, "strict": False}, "routes": {"a": {"ceiling": 2}}}
    assert protected_changes(Service, old, new) == {"listen.port", "routes.a.ceiling"}
    assert protected_changes(Service, {"limits": {"ceiling": 1}}, {"limits": 5}) == {
        "limits",
        "limits.ceiling",
    }
