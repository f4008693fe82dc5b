"""What every command of `lab` writes with, and how it ends."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, NoReturn

import click
import typer
from rich.console import Console

from lab import report, views
from lab.drill import Progress
from lab.paths import ToolMissing
from lab.prometheus import PrometheusUnreachable
from lab.promql import QueryError
from lab.recording import RecordingError
from lab.run import RunError
from loadtests import LoadError
from stack.evals.errors import EvaluationError
from stack.rag.hits import RetrievalError
from stack.settings import ConfigError

PASS, FAIL, USAGE, INTERRUPTED = 0, 1, 2, 130
EXPECTED = (
    ConfigError, RunError, LoadError, ToolMissing, PrometheusUnreachable, QueryError, RecordingError,
    EvaluationError, RetrievalError,
)  # fmt: skip
SCHEMA = 1

# Where nobody looks at a terminal, lines stay whole: addresses, queries and differences are copied from there.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 1000)
errors = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 1000)

Json = Annotated[bool, typer.Option("--json", help="print one JSON object with schema_version, nothing else")]


def guarded(failure: int = FAIL) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Expected errors of a command end in one clear message and an exit code: `failure`, or 2 for wrong usage."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except EXPECTED as problem:
                fail(str(problem), USAGE if isinstance(problem, ConfigError | report.WrongAnswer) else failure)
            except KeyboardInterrupt:
                fail("interrupted", INTERRUPTED)
            except (typer.Exit, typer.Abort, click.ClickException, BrokenPipeError):  # the last: `| head` has enough
                raise
            except Exception:  # a fault of ours: never an exit code that means something else
                errors.print_exception()
                raise typer.Exit(failure) from None

        return wrapped

    return decorate


def fail(message: str, code: int) -> NoReturn:
    """End the command with an error."""
    errors.print(f"[red]error:[/] {views.plain(message)}")
    raise typer.Exit(code)


def emit(payload: dict[str, Any]) -> None:
    """Print a result for programs."""
    print(json.dumps(_finite({"schema_version": SCHEMA, **payload}), indent=1))


def _finite(value: Any) -> Any:
    """With null for what JSON has no number for: NaN, infinity."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def progress(quiet: bool = False) -> Iterator[Progress]:
    """One line that changes on a terminal; a plain line for each new step elsewhere."""
    if quiet:
        yield lambda text: None
    elif errors.is_terminal:
        with errors.status("…") as status:
            yield lambda text: status.update(views.plain(text))
    else:
        yield views.Steps(lambda line: print(line, file=sys.stderr, flush=True))
