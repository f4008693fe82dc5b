"""Is a PromQL query evidence? If its value in the broken run stands out from a healthy run and from a decoy.

A decoy shows the same symptom from another cause, so what tells it apart is more than the symptom. No decoy shows all
of it as strongly: metrics of the symptom are told by their names as well, and a scenario may name more.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from lab.promql import QueryError, read

MAX_CHARS = 2_000
MAX_SELECTORS = 4  # products of a quantity with itself blow small differences up
RUNS = ("broken", "healthy", "decoy")

# Under this a value counts as nothing, so that a stray event does not stand out from none: 1 ms, 0.1 %, one
# event in 1,000 s.
SMALLEST = 0.001

_SAYS_NOTHING = re.compile(r"up|(process|python|prometheus|scrape)_.*|ALERTS.*")
_CLOCKS = re.compile(r".*_timestamp_seconds|.*_index_age_seconds")  # they differ from run to run as time() does
_MAY_HELP = frozenset(["up", "process_cpu_seconds_total"])  # beside a metric of the stack, as CPU time per token

# Not here: what reads the clock, which differs from recording to recording (time, timestamp, hour), and what
# blows a small difference up (exp, ln, sgn, round).
_OVER_TIME = frozenset(
    f"{how}_over_time" for how in ("absent", "avg", "count", "last", "max", "min", "quantile", "stddev", "sum")
)
_AGGREGATIONS = frozenset(["avg", "bottomk", "count", "max", "min", "quantile", "stddev", "sum", "topk"])
_FUNCTIONS = _OVER_TIME | _AGGREGATIONS | {
    *("changes", "delta", "deriv", "increase", "irate", "rate", "resets"),
    *("abs", "absent", "clamp_max", "clamp_min", "histogram_quantile", "scalar", "vector"),
}  # fmt: skip
_BLOW_UP = frozenset(["^", "%", "atan2"])

# What callers see, and what any service, gateway or engine shows that has too much to do or too little.
_SYMPTOMS = (
    "loadgen[_:].*|gateway:.*|http_.*",
    "gateway_(request_duration|upstream_duration|overhead|time_to_first_token)_seconds_.*",
    "gateway_(requests|tokens)_total",
    ".*_in_flight(_.*)?",
    "(vllm:num_|llm:)requests_.*|(vllm|llm):kv_cache_usage.*|(vllm:num_|llm:)preemptions.*",
    "vllm:(time_to_first_token|e2e_request_latency|inter_token_latency)_seconds_.*|llm:time_.*",
    "vllm:request_(queue_time|inference_time|decode_time|time_per_output_token)_seconds_.*",
    "vllm:(prompt_tokens|generation_tokens|request_success|iteration_tokens_total_count)(_total)?",
    "vllm:request_(.*_count|(prompt|generation|max_num_generation)_tokens_.*|params_.*|num_preemptions_.*)",
)
_WHOLE = 0.02  # from a whole power: guards such as clamp_min(x, 0.001) move a little
_POINT_ELSEWHERE = frozenset(["offset", "@"])


@dataclass(frozen=True)
class Comparison:
    """Whether three values are told apart, and why, in a sentence."""

    separates: bool
    sentence: str


def refusals(query: str, recorded: frozenset[str], seconds: float) -> list[str]:
    """Why `query` cannot be evidence, whatever its values; empty if it can be.

    `recorded` are the metrics in the recording of the broken run, which is `seconds` long.
    """
    if len(query) > MAX_CHARS:
        return [f"the query is longer than {MAX_CHARS} characters"]
    try:
        used = read(query)
    except QueryError as problem:
        return [f"the query cannot be read: {problem}"]
    found = []
    if any(selector.metric is None for selector in used.selectors):
        found.append("a selector without a metric's name picks whatever happens to be there: name the metric")
    if any("instance" in selector.labels for selector in used.selectors):
        found.append("a match on instance picks one run's port: leave it out")
    if used.operators & _POINT_ELSEWHERE:
        found.append("offset and @ point to another time: evidence is read while the recorded load was on")
    if strange := sorted(used.functions - _FUNCTIONS):
        found.append(f"{', '.join(strange)} cannot be used in evidence; use {', '.join(sorted(_FUNCTIONS))}")
    if used.operators & _BLOW_UP:
        found.append("^, % and atan2 blow small differences up: compare the quantity itself")
    if "bool" in used.operators or any(limit != 0 for limit in used.limits):
        found.append(
            "a comparison makes all or nothing of any difference: compare with 0 only, to guard a division, and give "
            "the quantity itself; of two metrics their ratio, or their difference"
        )
    if len(used.selectors) > MAX_SELECTORS:
        found.append(f"more than {MAX_SELECTORS} selections of series: evidence is simpler than that")
    if any(window > seconds for window in used.windows):
        found.append(f"the recordings hold {seconds:.0f} s: take windows no longer than that")
    return found + _metrics(used.metrics, recorded)


def _metrics(named: frozenset[str], recorded: frozenset[str]) -> list[str]:
    """What is wrong with the choice of metrics."""
    if clocks := sorted(filter(_CLOCKS.fullmatch, named)):
        return [f"{name} tells when something was done in one run, not what was wrong" for name in clocks]
    telling = _telling(named)
    if telling & recorded:
        others = sorted(named - telling - _MAY_HELP)
        return [f"{name} tells which process ran, not what was wrong with it" for name in others]
    if telling:
        name = min(telling)
        close = get_close_matches(name, _telling(recorded), n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        return [f"the recording of the broken run has no metric {name}{hint}"]
    return ["the query names no metric of the stack: constants, up and process metrics explain nothing"]


def _telling(named: frozenset[str]) -> set[str]:
    return {name for name in named if not _SAYS_NOTHING.fullmatch(name) and not _CLOCKS.fullmatch(name)}


def of_symptoms(query: str, symptoms: Iterable[str]) -> bool:
    """Whether `query` gives what says that something is wrong, and not what: latencies, queues, throughput, what
    callers see, and metrics whose whole name matches one of `symptoms`. Another quantity may be divided by them.

    Raises QueryError.
    """
    patterns = re.compile("|".join([*_SYMPTOMS, *symptoms]))
    given = {one.metric for one in read(query).selectors if one.metric and not one.divides}
    return any(patterns.fullmatch(name) for name in given)


def grows_alike(values: Mapping[str, float], grown: Mapping[str, float], times: float) -> bool:
    """Whether a query gives a quantity: `grown` are its values where all that it reads is `times` as much.

    In every run a quantity is then `times` as much as well, a product of two the square as much, a quotient the same.
    What sets one against a number of the query's own, as x - 0.35, is not: it makes any difference of a small one.
    """
    pairs = [(max(0.0, values[run]), max(0.0, grown[run])) for run in values]
    powers = [_power(before, after, times) for before, after in pairs if before or after]
    whole = range(-MAX_SELECTORS, MAX_SELECTORS + 1)
    return any(all(abs(power - one) < _WHOLE for power in powers) for one in whole)


def _power(before: float, after: float, times: float) -> float:
    return math.log(after / before, times) if before > 0 and after > 0 else math.nan


def is_share(metric: str) -> bool:
    """Whether it is a share of 1, by Prometheus's naming rules."""
    return metric.endswith("_ratio")


def of_shares(query: str) -> bool:
    """Whether all that `query` reads are shares of 1. Raises QueryError."""
    telling = _telling(read(query).metrics)
    return bool(telling) and all(map(is_share, telling))


def no_sizes(values: Mapping[str, float | None]) -> list[str]:
    """Why `values`, by name of `RUNS`, are none that can be compared; None is where the query gave nothing."""
    return [f"{run}: {reason}" for run in RUNS if (reason := _no_size(values[run]))]


def compare(values: Mapping[str, float], factor: float, shares: bool = False) -> Comparison:
    """Does the broken value stand out? `values` are finite, by name of `RUNS`; what is below 0 counts as 0.

    It must be at least `factor` times both others, or both others at least `factor` times it. Of `shares` of 1 either
    part may stand out: .99 and .80 are close, .01 and .20 are not, and both say the same.
    """
    found = _compare(values, factor)
    if found.separates or not shares or not all(0 <= values[run] <= 1 for run in RUNS):
        return found
    rest = {run: 1 - value for run, value in values.items()}
    of_rest = _compare(rest, factor, "The query, by what is left to 1,")
    return of_rest if of_rest.separates else found


def _compare(values: Mapping[str, float], factor: float, who: str = "The query") -> Comparison:
    broken, healthy, decoy = (max(0.0, values[run]) for run in RUNS)
    below = " (what is below 0 counts as 0)" if min(values[run] for run in RUNS) < 0 else ""
    shown = f"broken {broken:.4g}, healthy {healthy:.4g}, decoy {decoy:.4g}{below}"
    if all(_exceeds(broken, other, factor) for other in (healthy, decoy)):
        return Comparison(True, f"{who} tells the runs apart: {shown}, at least {factor:g} times both others.")
    if all(_exceeds(other, broken, factor) for other in (healthy, decoy)):
        return Comparison(True, f"{who} tells the runs apart: {shown}, at most 1/{factor:g} of both others.")
    return Comparison(
        False, f"{who} does not tell the runs apart: {shown}; {_missing(broken, healthy, decoy, factor)}."
    )


def _exceeds(high: float, low: float, factor: float) -> bool:
    return high >= SMALLEST and high > low and high >= factor * low


def _no_size(value: float | None) -> str | None:
    if value is None:
        return "no value; where nothing means 0, write `or vector(0)`"
    if math.isnan(value):
        return "not a number, as from 0 divided by 0; guard the division"
    if math.isinf(value):
        return "infinite, as from a division by 0; guard the division"
    return None


def _missing(broken: float, healthy: float, decoy: float, factor: float) -> str:
    """What keeps the three values from being told apart."""

    def far(other: float) -> bool:
        return _exceeds(broken, other, factor) or _exceeds(other, broken, factor)

    if far(healthy) and far(decoy):
        return "the broken value lies between the others, so it does not stand out"
    if far(healthy):
        return "the decoy looks the same, so other causes make it so as well"
    if far(decoy):
        return "the healthy run looks the same, so nothing is wrong with this quantity"
    return f"no difference of {factor:g} times to either"
