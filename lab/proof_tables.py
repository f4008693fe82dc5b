"""The evidence of a proof as Markdown tables: controls, spread over repeats, disturbances.

`python -m lab.proof_tables` makes those of docs/grading.md again, from the files in `hidden/proof/`. Each stands
between two comments, `<!-- proof of ID -->` and `<!-- end -->`; instead of `proof`: `repeats`, `disturbances`.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

from lab.grade import margin_in_words
from lab.paths import ROOT
from lab.proof import proof_path
from lab.scenario import find

DOCUMENT = ROOT / "docs/grading.md"
FIGURES = (
    ("goodput", "share"),
    ("ttft_p50", "s"),
    ("ttft_p95", "s"),
    ("tpot_p50", "s"),
    ("prompt_tokens", "tokens"),
    ("completion_tokens", "tokens"),
)


def spread(made: Mapping[str, Any]) -> str:
    """Rows by configuration and figure, of the attempts at each configuration under `made["repeats"]`.

    Attempts that could not be graded are counted, and their figures left out. σ is the sample standard deviation.
    """
    repeats = made["repeats"]
    lines = ["| configuration | figure | n | mean | σ | least | most | threshold | distance |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for name, attempts in repeats.items():
        graded = [attempt for attempt in attempts if attempt["verdict"] != "cannot_grade"]
        for figure, values, threshold in _series(graded):
            lines.append(f"| {name} | {figure} | {' | '.join(_row(values, threshold))} |")
    every = [attempt for attempts in repeats.values() for attempt in attempts]
    return "\n".join(lines) + f"\n\n{verdicts(repeats)}\n{machine_of(made)}. {conditions(every)}\n"


def verdicts(repeats: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One line per configuration: how often each verdict."""
    lines = []
    for name, attempts in repeats.items():
        said = [attempt["verdict"] for attempt in attempts]
        counts = ", ".join(f"{said.count(word)} × {word.replace('_', ' ')}" for word in dict.fromkeys(said))
        lines.append(f"* {name}: {counts}")
    return "\n".join(lines) + "\n"


def machine_of(made: Mapping[str, Any]) -> str:
    """Where the evidence was made."""
    return f"{made['machine']['cores']} cores of {made['machine']['cpu']}"


def conditions(attempts: Sequence[Mapping[str, Any]]) -> str:
    """How steady the machine was, and how late the generator."""
    known = [attempt["conditions"] for attempt in attempts if _has_rows(attempt)]
    if not known:
        return "No load left anything to look at."
    anchors = [one["anchors"] for one in known]
    speeds = [anchor[when] / anchor["calibrated"] for anchor in anchors for when in ("before", "after")]
    late = [one["delivery"]["lag_p99_seconds"] for one in known]
    lags = [1e3 * seconds for seconds in late if seconds is not None]  # None: no request was sent
    return (
        f"The machine ran at {min(speeds):.0%} to {max(speeds):.0%} of its calibrated speed; the p99 of the "
        f"generator's lag was {min(lags):.0f} to {max(lags):.0f} ms, {median(lags):.0f} ms in the middle."
    )


def _has_rows(attempt: Mapping[str, Any]) -> bool:
    """Whether the load generator left anything that could be looked at."""
    return "delivery" in attempt["conditions"]


def _series(graded: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[float], float | None]]:
    """Each figure with its values, and the mean threshold of the check on it."""
    thresholds = {"goodput": "goodput", "prompt_tokens": "prompt_work", "completion_tokens": "answer_work"}
    for figure, unit in FIGURES:
        values = [attempt["figures"][figure] for attempt in graded if attempt["figures"].get(figure) is not None]
        if values:  # a scenario without streamed answers has no times of tokens
            yield f"{figure} ({unit})", values, _threshold(graded, thresholds.get(figure))
    for check in graded[0]["checks"] if graded else ():
        if check["kind"] in ("cost", "level", "false_alarms", "missed_alarms", "quality"):
            values = [item["value"] for attempt in graded for item in attempt["checks"] if item["id"] == check["id"]]
            known = [value for value in values if value is not None]
            yield check["id"], known, _threshold(graded, check["id"])


def _threshold(graded: Sequence[Mapping[str, Any]], check_id: str | None) -> float | None:
    found = [c["threshold"] for a in graded for c in a["checks"] if c["id"] == check_id and c["threshold"] is not None]
    return mean(found) if found else None


def _row(values: Sequence[float], threshold: float | None) -> list[str]:
    if not values:
        return ["0", *["-"] * 6]
    middle, sigma = mean(values), stdev(values) if len(values) > 1 else 0.0
    shown = [middle, sigma, min(values), max(values)]
    return [
        str(len(values)),
        *(f"{value + 0:.4g}" for value in shown),  # + 0: no "-0"
        "" if threshold is None else f"{threshold:.4g}",
        _distance(middle, sigma, threshold),
    ]


def _distance(middle: float, sigma: float, threshold: float | None) -> str:
    """From the mean to the threshold, in standard deviations."""
    if threshold is None:
        return ""
    return "∞" if sigma == 0 else f"{abs(middle - threshold) / sigma:.0f} σ"


def controls(proof: Mapping[str, Any]) -> str:
    """Each control of a proof: what it had to do, what it did, the figures behind it."""
    lines = [
        f"{machine_of(proof)}, capacity {proof['baseline']['capacity']:.2f} requests/s, "
        f"{proof['seconds'] / 60:.0f} minutes.",
        "",
        "| control | must | verdict | goodput | margins | attempts |",
        "| --- | --- | --- | ---: | --- | ---: |",
    ]
    for item in proof["controls"]:
        last = item["attempts"][-1]
        margins, shown = margins_of(last["checks"]), "-"
        if _has_rows(last):
            # A load that was cut short counts certain misses only: its goodput is an upper bound.
            bound = "≤ " if last["conditions"]["delivery"]["cut_short"] else ""
            shown = f"{bound}{last['figures']['goodput']:.0%}"
        cells = [item["control"], item["must"], last["verdict"], shown, margins, str(len(item["attempts"]))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def margins_of(checks: Sequence[Mapping[str, Any]]) -> str:
    """The margins that there are, by check."""
    known = [check for check in checks if check["margin"] is not None]
    return ", ".join(f"{check['id']} {margin_in_words(check['margin'], check['margin_unit'])}" for check in known)


def disturbed(made: Mapping[str, Any]) -> str:
    """Each disturbed load with its verdict."""
    lines = ["| configuration | disturbance | verdict | CPU outside | why |", "| --- | --- | --- | ---: | --- |"]
    for item in made["results"]:
        graded, outside = item["verdict"] != "cannot_grade", "-"
        why = f"goodput {item['figures']['goodput']:.1%}" if graded else "; ".join(item["reasons"])
        if _has_rows(item):
            host = item["conditions"]["host"]
            outside = f"{host['outside_share'] + host['steal_share']:.1%}"
        verdict = item["verdict"].replace("_", " ")
        lines.append(f"| {item['configuration']} | {item['disturbance']} | {verdict} | {outside} | {why} |")
    return "\n".join(lines) + f"\n\n{machine_of(made)}.\n"


_TABLES: dict[str, Callable[[Any], str]] = {
    "proof": controls,
    "repeats": spread,
    "disturbances": disturbed,
}
_PLACE = re.compile(rf"(<!-- ({'|'.join(_TABLES)}) of ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """`text` with each table made again in its place. Raises ConfigError, OSError: there is no such evidence."""

    def table(place: re.Match[str]) -> str:
        before, evidence, scenario, after = place.groups()
        proof = proof_path(find(scenario))
        made = json.loads(proof.with_name(f"{evidence}.json").read_text())
        older = _older(made, json.loads(proof.read_text())) if evidence == "repeats" else ""
        return f"{before}\n{_TABLES[evidence](made).strip()}{older}\n\n{after}"

    return _PLACE.sub(table, text)


def _older(made: Mapping[str, Any], proof: Mapping[str, Any]) -> str:
    """Whether `made` is of another version than the proof, in a sentence."""
    if all(made.get(what) == proof[what] for what in ("digest", "code", "grader")):
        return ""
    return " Between these loads and the proof above the scenario, its code or its grader was changed."


def main() -> int:
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
