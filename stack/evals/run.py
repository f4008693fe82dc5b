"""Runs suites against a stack, each example once, and keeps what came of it."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence

from stack.evals.example import Example, Row
from stack.evals.results import Results
from stack.evals.stack_client import Addresses, Failed, JudgeEndpoint, Places, Stack
from stack.evals.suite import Mode, Named
from stack.evals.tasks import Task, task_of

Progress = Callable[[str], None]
TELL_SECONDS = 2.0
OF_ANOTHER_SHAPE = (LookupError, AttributeError, TypeError, ValueError)
"""What reading an answer raises that is not as it should be: a failure of the stack."""


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


async def _run_suite(
    suite: Named, mode: Mode, identity: str, addresses: Addresses, places: Places, results: Results,
    before: Mapping[str, str], progress: Progress,
) -> None:  # fmt: skip
    task = task_of(suite)
    examples = task.examples(suite, mode, places)
    judge = addresses.judge if suite.suite.judge else None
    keys = {example.id: key_of(identity, suite, example, before.get(example.id), judge) for example in examples}
    done = {name for name, row in results.rows(suite.name).items() if row.error is None and row.key == keys.get(name)}
    todo = [example for example in examples if example.id not in done]
    if done:
        progress(f"{suite.name}: {len(done)} of {len(examples)} examples are there from before")
    told, begun, count = time.monotonic(), time.monotonic(), 0
    slots = asyncio.Semaphore(suite.suite.concurrency)

    async with Stack(addresses, before) as stack:

        async def one(example: Example) -> Row:
            async with slots:
                return await _row(task, suite, example, keys[example.id], stack)

        for finished in asyncio.as_completed([one(example) for example in todo]):
            results.add(await finished)
            count += 1
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                progress(f"{suite.name}: {len(done) + count} of {len(examples)} examples")
    progress(f"{suite.name}: {len(examples)} examples, {time.monotonic() - begun:.0f} s")


async def _row(task: Task, suite: Named, example: Example, key: str, stack: Stack) -> Row:
    begun = time.perf_counter()
    output, scores, error = {}, {}, None
    try:
        output = await task.ask(example, stack)
        scores = task.score(example, output)
    except Failed as failed:
        error = str(failed)
    except OF_ANOTHER_SHAPE as problem:
        error = f"unexpected answer: {type(problem).__name__} {problem}"
    seconds = time.perf_counter() - begun
    if error is None:
        scores = scores | {"seconds": seconds}
    return Row(suite.name, example.id, key, example.slices, example.ask, output, scores, seconds, error)


def key_of(
    identity: str, suite: Named, example: Example, before: str | None, judge: JudgeEndpoint | None = None
) -> str:
    """What a row holds for; `judge` where one has a say."""
    parts = [identity, suite.hash, example.digest, before or "", f"{judge.model} {judge.sample}" if judge else ""]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
