"""Runs suites against a stack, each example once, and keeps what came of it."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stack.evals.example import Example, Failure, Row
from stack.evals.results import Results
from stack.evals.stack_client import Addresses, Failed, JudgeEndpoint, Places, Stack
from stack.evals.suite import Mode, Named
from stack.evals.tasks import AT_ONCE, SECONDS, Task, task_of
from stack.evals.tasks.retrieval import SOURCES
from stack.settings import ConfigError, nearest

Progress = Callable[[str], None]
TELL_SECONDS = 2.0
OF_ANOTHER_SHAPE = (LookupError, AttributeError, TypeError, ValueError)
"""What reading an answer raises that is not as it should be: a failure of the stack."""
ASKED_AGAIN = {"judge", "way"}
"""What a run that goes on asks once more. What the stack failed to answer is a result: it gets no second chance."""


def run(
    suites: Sequence[Named],
    mode: Mode,
    addresses: Addresses,
    places: Places,
    results: Results,
    before: Mapping[str, Mapping[str, str]],
    progress: Progress,
) -> None:
    """Ask every example that `results` does not have yet. Raises RetrievalError: a collection is missing.

    The run is not finished by that: its verdict and reports are still to be made.

    `before`: answers of the baseline, by suite and example. An example that fails is kept with its error.
    """
    identity = results.manifest().identity.digest
    for suite in suites:
        asyncio.run(_run_suite(suite, mode, identity, addresses, places, results, before.get(suite.name, {}), progress))


def check(suites: Sequence[Named]) -> None:
    """Whether there is all that the suites speak of. Raises ConfigError."""
    for suite in suites:
        there = task_of(suite).SCORES | {SECONDS, AT_ONCE}
        problems = [
            f"metrics.{name}.score: '{metric.score}' is no score of the task {suite.suite.task}; "
            f"{nearest(metric.score, there)}"
            for name, metric in suite.suite.metrics.items()
            if metric.score not in there
        ]
        problems += [
            f"collections: unknown collection '{name}'; {nearest(name, SOURCES)}"
            for name in suite.suite.collections
            if name not in SOURCES
        ]
        if problems:
            raise ConfigError(f"{suite.name}.yaml", problems)


async def _run_suite(
    suite: Named, mode: Mode, identity: str, addresses: Addresses, places: Places, results: Results,
    before: Mapping[str, str], progress: Progress,
) -> None:  # fmt: skip
    task = task_of(suite)
    examples = task.examples(suite, mode, places)
    judge = addresses.judge if suite.suite.judge else None
    results.forget_all_but(suite.name, {example.id for example in examples})
    keys = {example.id: key_of(identity, suite, example, before.get(example.id), judge) for example in examples}
    done = {
        name
        for name, row in results.rows(suite.name).items()
        if row.failed not in ASKED_AGAIN and row.key == keys.get(name)
    }
    todo = [example for example in examples if example.id not in done]
    if done:
        progress(f"{suite.name}: {len(done)} of {len(examples)} examples are there from before")
    told, begun, count = time.monotonic(), time.monotonic(), 0
    slots = asyncio.Semaphore(suite.suite.concurrency)
    reached = False

    async with Stack(addresses, before) as stack:

        async def one(example: Example) -> Row:
            async with slots:
                return await _row(task, suite, example, keys[example.id], stack)

        for finished in asyncio.as_completed([one(example) for example in todo]):
            row = await finished
            reached = reached or row.failed != "way"
            if row.failed == "way" and reached:  # it was there: it ended under these questions
                row = replace(row, failed="stack")
            results.add(row)
            count += 1
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                progress(f"{suite.name}: {len(done) + count} of {len(examples)} examples")
    progress(f"{suite.name}: {len(examples)} examples, {time.monotonic() - begun:.0f} s")


async def _row(task: Task, suite: Named, example: Example, key: str, stack: Stack) -> Row:
    asked = stack.for_example()
    begun = time.perf_counter()
    seconds, output, scores = 0.0, {}, {}
    error: str | None = None
    failed: Failure | None = None
    try:
        output = await task.ask(example, asked)
        seconds = time.perf_counter() - begun
        scores = task.score(example, output) | {SECONDS: seconds, AT_ONCE: float(asked.refusals == 0)}
    except Failed as problem:
        error, failed = str(problem), problem.failure
    except OF_ANOTHER_SHAPE as problem:
        error, failed = f"unexpected answer: {type(problem).__name__} {problem}", "stack"
    seconds = seconds or time.perf_counter() - begun
    return Row(suite.name, example.id, key, example.digest, example.slices, example.ask, output, scores, seconds, error,
               failed, asked.refusals)  # fmt: skip


def key_of(
    identity: str, suite: Named, example: Example, before: str | None, judge: JudgeEndpoint | None = None
) -> str:
    """What a row holds for; `judge` where one has a say."""
    parts = [identity, suite.hash, example.digest, before or "", judge.identity if judge else ""]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
