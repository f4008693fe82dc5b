"""Evaluates a release: its configuration is put into service, suites are run against it, the gate compares."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lab import workspace
from lab.calibrate import machine
from lab.code import digest_of, stack_digest
from lab.deployment import deployed
from lab.drill import Configs, Progress
from lab.paths import CACHE, ROOT, RUNS
from lab.run import Ports, new_id
from lab.scenario import SERVICES
from stack.evals import baseline, report
from stack.evals import run as suites_run
from stack.evals.errors import NoBaseline, NotComparable, ResultsError, TrackingFailed
from stack.evals.gate import Verdict, judge_suite, visible
from stack.evals.results import MANIFEST, Identity, Manifest, Results
from stack.evals.stack_client import Addresses, JudgeEndpoint, Places
from stack.evals.suite import Mode, Named, load_suites
from stack.evals.tasks import task_of
from stack.settings import ConfigError, read_yaml

EVALUATIONS = RUNS / "evaluations"
PLACES = Places(CACHE / "data", CACHE / "documents")
Sizes = dict[str, dict[Mode, dict[str, float]]]
"""By metric and size of a run: `examples`, and `sees_from`, the smallest loss that is blocked with 80 % power."""
MODEL_FILES = {".onnx", ".safetensors", ".npz", ".json"}  # weights, tokenizers


@dataclass(frozen=True)
class Release:
    """What is evaluated: the configuration of every service that its suites need."""

    configs: Configs
    label: str = ""
    changes: tuple[Mapping[str, Any], ...] = ()
    """What was changed of the default configuration, {service: merge patch} each."""


def release(
    suites: Sequence[Named], changes: Sequence[Path] = (), label: str = "", patches: Sequence[Mapping[str, Any]] = ()
) -> Release:
    """The default configuration of what `suites` need with `changes`, files of {service: merge patch}, and `patches`.

    Collections that no suite asks about are left out: nothing has to build them, and the others are built with all
    cores. Raises ConfigError, also for a change that would not be seen, because no suite needs what it speaks of,
    or that changes nothing.
    """
    needed = {service for suite in suites for service in suite.suite.services}
    shipped = workspace.defaults([name for name in SERVICES if name in needed])
    if "rag" in shipped:
        vectors = vectors_of_this_code(shipped["rag"]["storage"]["vectors"])
        shipped["rag"] = workspace.merge_patch(shipped["rag"], {"storage": {"vectors": vectors}})
    configs = shipped
    changed = [*map(_change, changes), *patches]
    asked = {collection for suite in suites for collection in suite.suite.collections}
    for patch in changed:
        _refuse_unseen("service", patch, configs)
        _refuse_discarded(patch, workspace.places(configs, Ports(0)))
        _refuse_unseen("collection", _collections(patch), asked)
        configs = workspace.patched(configs, patch)
    if changes or any(patches):
        _refuse_nothing(shipped, configs)
    if "rag" in configs:
        unasked = {name: None for name in (configs["rag"].get("collections") or {}) if name not in asked}
        configs["rag"] = workspace.on_all_cores(workspace.merge_patch(configs["rag"], {"collections": unasked}))
    return Release(configs, label, tuple(changed))


def _collections(patch: Mapping[str, Any]) -> Mapping[str, Any]:
    found = patch.get("rag", {}).get("collections") or {}
    if not isinstance(found, Mapping):
        raise ConfigError("change", [f"rag.collections: {found!r} is no mapping of names to collections"])
    return found


def vectors_of_this_code(vectors: Path | str) -> str:
    """The folder in `vectors` for the encoders' code as it is. That of drills knows weights and settings alone: a fault
    in that code would change the vectors of questions there, and of no document."""
    return f"{vectors}/{digest_of((ROOT / 'stack/rag/encoders').glob('*.py'))[:12]}"


def _refuse_unseen(kind: str, changed: Iterable[str], seen: Iterable[str]) -> None:
    if unseen := sorted(set(changed) - set(seen)):
        told = ", ".join(sorted(seen)) or "none"
        problem = f"{unseen[0]}: no suite of this run asks this {kind}, so its change would not be seen; asked: {told}"
        raise ConfigError("change", [problem])


def _refuse_nothing(before: Configs, after: Configs) -> None:
    """A release that is what is in service passes, whatever its author meant to change."""
    if workspace.amounting_to(before) == workspace.amounting_to(after):
        problem = "every key has that value already; null removes a key (RFC 7396), so that its default holds"
        raise ConfigError("change", [f"it changes nothing: {problem}"])


def _refuse_discarded(patch: Mapping[str, Any], places: Mapping[str, Any], path: str = "") -> None:
    """Addresses and files are the run's own, whatever a change says of them."""
    for key in patch.keys() & places.keys():
        here, there = patch[key], places[key]
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            _refuse_discarded(here, there, f"{path}{key}.")
        else:
            problem = f"{path}{key}: each run sets it for itself, so its change would not be seen; leave it out"
            raise ConfigError("change", [problem])


def _change(path: Path) -> Mapping[str, Any]:
    try:
        patches = read_yaml(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(path, [f"cannot read it: {problem}"]) from problem
    if not isinstance(patches, Mapping) or not all(isinstance(patch, Mapping) for patch in patches.values()):
        raise ConfigError(path, [f"{path.name}: a change is {{service: merge patch}}"])
    if unknown := sorted(set(patches) - set(SERVICES)):
        raise ConfigError(path, [f"{unknown[0]}: no service; a change has {', '.join(SERVICES)} at its top"])
    return patches


def identity(of: Release) -> Identity:
    """What results of this release hold for."""
    text = json.dumps(of.configs, sort_keys=True)
    beside = digest_of([ROOT / "lab/deployment.py"])  # the second gateways that suites ask
    code = hashlib.sha256(f"{stack_digest(of.configs)} {stack_digest(['evals'])} {beside}".encode()).hexdigest()
    return Identity(hashlib.sha256(text.encode()).hexdigest(), code, _weights(of.configs))


def _weights(configs: Configs) -> str:
    """SHA-256 over the models that the configurations name."""
    digest = hashlib.sha256()
    for path in sorted({path for config in configs.values() for path in _paths(config)}):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and file.suffix in MODEL_FILES:
                digest.update(f"{file.name}\0{_digest_of_file(file)}\0".encode())
    return digest.hexdigest()


@cache
def _digest_of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _paths(config: Any) -> Iterator[Path]:
    """Files and folders of models that a configuration names, which count from its folder."""
    if isinstance(config, Mapping):
        for value in config.values():
            yield from _paths(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _paths(value)
    elif isinstance(config, str) and "\n" not in config:
        path = (workspace.DEFAULTS / config).resolve()
        if path.suffix in MODEL_FILES or "models" in Path(config).parts:
            yield path


def evaluate(
    suites: Sequence[Named], mode: Mode, of: Release, progress: Progress, *, against_baseline: bool = True,
    judge: JudgeEndpoint | None = None,
) -> tuple[Results, list[Verdict]]:  # fmt: skip
    """Run `suites` against the release and compare; a run that was cut off goes on.

    Without `against_baseline` nothing is compared: the run becomes the baseline. Raises ConfigError, RunError,
    NoBaseline, ResultsError, RetrievalError.
    """
    suites_run.check(suites)
    baselines = {suite.name: baseline.read(suite, mode) for suite in suites} if against_baseline else {}
    asked = {suite.name: suite.hash for suite in suites}
    unasked = tuple(suite.name for suite in load_suites() if suite.name not in asked)
    manifest = Manifest(
        1, new_id(), mode, asked, identity(of), f"{machine()['cpu']}, {machine()['cores']} cores", time.time(),
        label=of.label, unasked=unasked, changes=of.changes, configs=of.configs,
    )  # fmt: skip
    results = Results.unfinished(EVALUATIONS, manifest)
    if results:
        progress(f"going on with the run {results.folder.name} that did not come to its end")
    else:
        results = Results.new(EVALUATIONS, manifest)
    before = {name: one.answers for name, one in baselines.items()}
    with deployed(suites, of.configs, progress, judge) as addresses:
        suites_run.run(suites, mode, addresses, PLACES, results, before, progress)
        for suite in suites:
            if against_baseline and suite.suite.judge and _complains(suite, results, baselines[suite.name]):
                _judge_again(suite, mode, addresses, results, before, progress)
    verdicts = [verdict(suite, results, baselines[suite.name]) for suite in suites] if against_baseline else []
    if verdicts:
        report.write_all(results.folder, results.manifest(), verdicts)
    if not any(one.problem for one in verdicts):  # else it goes on, once what was in the way is mended
        results.finish(report.outcome_of(verdicts) if verdicts else None)
    return results, verdicts


def record(results: Results, verdicts: Sequence[Verdict], url: str | None, warn: Progress) -> None:
    """Keep a run in MLflow: at `url`, by default in a file, nowhere where it is "off". A verdict stands without it, so
    that no more than a warning comes of a failure."""
    from stack.evals import tracking

    if url == "off":
        return
    store = EVALUATIONS / "mlflow"
    store.mkdir(parents=True, exist_ok=True)
    try:
        tracking.record(results, verdicts, url or f"sqlite:///{store / 'mlflow.sqlite'}", store / "artifacts")
    except TrackingFailed as problem:
        warn(f"warning: {problem}")


def verdict(suite: Named, results: Results, compared: baseline.Baseline | Results) -> Verdict:
    """What the gate says of a suite of a run, compared with its baseline or another run; where it cannot be judged,
    why. Raises ResultsError."""
    try:
        return _verdict(suite, results, against(suite, compared) if isinstance(compared, Results) else compared)
    except NotComparable as problem:
        return Verdict(suite.name, suite.suite.about, (), problem=str(problem))


def _verdict(suite: Named, results: Results, compared: baseline.Baseline) -> Verdict:
    """Of a run that has all its rows, further rounds of judging included. Raises NotComparable and ResultsError."""
    manifest = results.manifest()
    if manifest.suites.get(suite.name) != suite.hash:
        raise NotComparable(f"{suite.name}: the suite has changed since the run was made; run it again")
    rounds = _rounds(suite, results)
    confirmed = None
    if suite.suite.judge and all((again.folder / f"{suite.name}.jsonl").exists() for again in rounds):
        seen = [judge_suite(suite, manifest.mode, again.rows(suite.name), compared).complaint for again in rounds]
        confirmed = sum(seen) >= suite.suite.judge.needed
    return judge_suite(suite, manifest.mode, results.rows(suite.name), compared, confirmed)


def against(suite: Named, results: Results) -> baseline.Baseline:
    """Another run as what one is compared with. Raises NotComparable, ResultsError."""
    manifest = results.manifest()
    if manifest.suites.get(suite.name) != suite.hash:
        raise NotComparable(f"{suite.name}: run {manifest.run_id} is not of this suite as it is now")
    rows = results.rows(suite.name)
    return baseline.make(suite, manifest.mode, vars(manifest.identity), manifest.machine, manifest.started, rows, rows)


def sizes(suite: Named) -> Sizes:
    """What the metrics of a suite see. Raises NoBaseline."""
    found: Sizes = {}
    for mode in suite.suite.examples:
        slices = {example.id: example.slices for example in task_of(suite).examples(suite, mode, PLACES)}
        compared = baseline.read(suite, mode)
        if slices.keys() != compared.examples(mode):
            raise NoBaseline(f"{suite.name}: its baseline is of other examples; `lab eval baseline` makes it")
        for metric, examples, sees_from in visible(suite, compared, slices):
            found.setdefault(metric, {})[mode] = {"examples": examples, "sees_from": sees_from}
    return found


def _complains(suite: Named, results: Results, compared: baseline.Baseline) -> bool:
    """Whether a judge that may be trusted finds the release worse: that is seen again, or it does not block."""
    try:
        first = judge_suite(suite, results.manifest().mode, results.rows(suite.name), compared)
    except NotComparable:
        return False  # the verdict tells
    return first.complaint and first.trust is not None and first.trust.enough


def _judge_again(
    suite: Named, mode: Mode, addresses: Addresses, results: Results, before: Mapping[str, Mapping[str, str]],
    progress: Progress,
) -> None:  # fmt: skip
    """Rounds in which the judge's verdicts are drawn anew."""
    rounds = _rounds(suite, results)
    for number, again in enumerate(rounds, start=1):
        progress(f"{suite.name}: judging again, round {number} of {len(rounds)}")
        if not (again.folder / MANIFEST).exists():
            Results.new(results.folder, replace(results.manifest(), run_id=again.folder.name, finished=None))
        assert addresses.judge is not None, "the release's engine judges where nothing else does"
        drawn = replace(addresses, judge=replace(addresses.judge, sample=number))
        suites_run.run([suite], mode, drawn, PLACES, again, before, progress)


def _rounds(suite: Named, results: Results) -> list[Results]:
    number = suite.suite.judge.rounds if suite.suite.judge else 0
    return [Results(results.folder / f"{suite.name}-round-{n}") for n in range(1, number + 1)]


def runs() -> dict[str, Results]:
    """All runs by id, oldest first; damaged ones are left out."""
    found = {}
    for path in sorted(EVALUATIONS.glob("*/run.json")):
        with suppress(ResultsError):
            results = Results(path.parent)
            found[results.manifest().run_id] = results
    return found


def as_dict(manifest: Manifest, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """For programs."""
    return {
        "run": manifest.run_id,
        "outcome": report.outcome_of(verdicts),
        "unasked": manifest.unasked,
        "suites": [asdict(verdict) for verdict in verdicts],
    }
