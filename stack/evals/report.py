"""The verdict for those who read it: a table in the terminal, Markdown for a pull request, HTML, JUnit for CI."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader
from rich.table import Table

from stack.evals.gate import Finding, Outcome, Verdict, worst
from stack.evals.results import Manifest

WORDS: dict[Outcome, str] = {"pass": "pass", "warn": "warn", "unjudged": "NOT JUDGED", "block": "BLOCK"}
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""https://www.w3.org/TR/xml/#charsets"""
STYLES: dict[Outcome, str] = {"pass": "", "warn": "yellow", "unjudged": "bold red", "block": "bold red"}


def outcome_of(verdicts: Iterable[Verdict]) -> Outcome:
    """The worst of all."""
    return worst(verdict.outcome for verdict in verdicts)


def sentence(verdicts: Sequence[Verdict], unasked: Sequence[str] = ()) -> str:
    """The whole verdict in a sentence, with a second one where it is not of all suites."""
    left_out = f" Not asked: {', '.join(unasked)}; what only they look after is not judged." if unasked else ""
    return _judged(verdicts) + left_out


def _judged(verdicts: Sequence[Verdict]) -> str:
    blocking, warning = _named(verdicts, "block"), _named(verdicts, "warn")
    unjudged = [verdict.suite for verdict in verdicts if verdict.problem]
    if unjudged and blocking:
        return f"BLOCK: worse than the baseline in {', '.join(blocking)}; not judged: {', '.join(unjudged)}."
    if unjudged:
        return f"NOT JUDGED, and so it may not ship: {', '.join(unjudged)}."
    if blocking:
        return f"BLOCK: worse than the baseline, beyond tolerance and chance, in {', '.join(blocking)}."
    if warning:
        return f"Pass, with a warning about {', '.join(warning)}."
    return "Pass: nothing is worse than the baseline beyond its tolerance."


def _named(verdicts: Iterable[Verdict], outcome: Outcome) -> list[str]:
    """Each suite with such findings, the first of them by name."""
    found = []
    for verdict in verdicts:
        metrics = [finding.metric for finding in verdict.findings if finding.outcome == outcome]
        if metrics:
            found.append(f"{verdict.suite} ({shortened(metrics, 2)})")
    return found


def shortened(names: Sequence[str], most: int) -> str:
    """At most so many of the names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def cells(finding: Finding) -> list[str]:
    """What stands in a row of a table."""
    interval = finding.interval
    return [
        finding.suite,
        finding.metric if finding.kappa is None else f"{finding.metric} (judge's kappa {finding.kappa:.2f})",
        WORDS[finding.outcome],
        number(finding.baseline),
        number(finding.candidate),
        f"{_signed(interval.difference)} [{_signed(interval.low)}, {_signed(interval.high)}]",
        number(finding.tolerance),
        f"{finding.examples:,}",
        number(finding.smallest),
        finding.reason,
    ]


HEADS = ("suite", "metric", "verdict", "baseline", "now", "change [95 %]", "tolerance", "examples", "sees from", "why")


def table(verdicts: Sequence[Verdict]) -> Table:
    """For the terminal, what blocks first. A change above 0 is an improvement."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for head in HEADS:
        made.add_column(head, justify="right" if head in HEADS[3:9] else "left", no_wrap=head in HEADS[:6])
    findings = (finding for verdict in verdicts for finding in verdict.findings)
    for finding in sorted(findings, key=lambda one: -list(WORDS).index(one.outcome)):
        made.add_row(*cells(finding), style=STYLES[finding.outcome])
    return made


def markdown(manifest: Manifest, verdicts: Sequence[Verdict]) -> str:
    """For a pull request: what blocks first, the rest folded."""
    lines = [f"## Evaluation: {sentence(verdicts, manifest.unasked)}", ""]
    lines += [f"- not judged: {_verbatim(verdict.problem)}" for verdict in verdicts if verdict.problem]
    lines.append("")
    important = [f for v in verdicts for f in v.findings if f.outcome != "pass"]
    if important:
        lines += [*_markdown_table(important), ""]
    everything = [f for v in verdicts for f in v.findings]
    lines += [f"<details><summary>All {len(everything)} metrics</summary>", "", *_markdown_table(everything), ""]
    lines += [f"- {v.suite}: {v.about}" for v in verdicts] + ["", "</details>", ""]
    lines += [f"- {line}" for line in notes(manifest, verdicts)]
    lines += [f"- failed: {_verbatim(line)}" for line in failures(verdicts)]
    lines += ["", f"Run `{manifest.run_id}` ({manifest.mode}) on {manifest.machine}. A change above 0 is better; *sees "
              "from*: how much worse it must be to be blocked with 80 % power."]  # fmt: skip
    return "\n".join(lines) + "\n"


def notes(manifest: Manifest, verdicts: Sequence[Verdict]) -> list[str]:
    """What has to be said beside the numbers: where they are from, how far a judge can be trusted."""
    found = []
    elsewhere = {verdict.compared_with for verdict in verdicts} - {manifest.machine, ""}
    if elsewhere:
        found.append(
            f"this run is of {manifest.machine}, baselines are of {', '.join(sorted(elsewhere))}: times differ, and "
            "the last digits of scores may"
        )
    for verdict in verdicts:
        if (trust := verdict.trust) is not None:
            may = "it may block" if trust.enough else "too little to block"
            found.append(
                f"{verdict.suite}: the judge agrees with {trust.pairs} known pairs at kappa {trust.kappa:.2f} (at "
                f"least {trust.least:.2f} is asked for: {may}); at equal length it prefers this release in "
                f"{trust.equal_length:.0%} of the pairs"
            )
    return found


def failures(verdicts: Iterable[Verdict]) -> list[str]:
    """Examples that failed, the first of each suite, in the words of what was asked."""
    return [f"{verdict.suite}: {error}" for verdict in verdicts for error in verdict.errors]


def _markdown_table(findings: Iterable[Finding]) -> list[str]:
    rows = [f"| {' | '.join(_escaped(cell) for cell in cells(finding))} |" for finding in findings]
    return [f"| {' | '.join(HEADS)} |", f"|{' --- |' * len(HEADS)}", *rows]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _verbatim(text: str) -> str:
    """As code on one line: what a service answered is neither Markdown, nor HTML, nor a mention of somebody."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"


def html(manifest: Manifest, verdicts: Sequence[Verdict]) -> str:
    """A page that needs nothing from elsewhere."""
    pages = Environment(loader=PackageLoader("stack.evals", "templates"), autoescape=True)
    return pages.get_template("report.html").render(
        manifest=manifest, verdicts=verdicts, heads=HEADS, cells=cells, notes=notes(manifest, verdicts),
        failures=failures(verdicts), sentence=sentence(verdicts, manifest.unasked), outcome=outcome_of(verdicts),
    )  # fmt: skip


def junit(verdicts: Sequence[Verdict], unasked: Sequence[str] = ()) -> str:
    """A test case for each metric: failures block; warnings are in the output of their case; what was not asked is
    skipped."""
    root = ET.Element("testsuites", name="evaluation")
    for verdict in verdicts:
        failures = sum(finding.outcome == "block" for finding in verdict.findings)
        suite = ET.SubElement(
            root, "testsuite", name=verdict.suite, tests=str(len(verdict.findings) + bool(verdict.problem)),
            failures=str(failures), errors=str(int(verdict.problem is not None)),
        )  # fmt: skip
        if verdict.problem:
            case = ET.SubElement(suite, "testcase", classname=f"evals.{verdict.suite}", name="judged")
            ET.SubElement(case, "error", message=_NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", verdict.problem))
        for finding in verdict.findings:
            case = ET.SubElement(suite, "testcase", classname=f"evals.{verdict.suite}", name=finding.metric)
            told = ", ".join(
                f"{head}: {cell}" for head, cell in zip(HEADS[2:], cells(finding)[2:], strict=True) if cell
            )
            if finding.outcome == "block":
                ET.SubElement(case, "failure", message=finding.reason).text = told
            else:
                ET.SubElement(case, "system-out").text = told
    for name in unasked:
        suite = ET.SubElement(root, "testsuite", name=name, tests="1", failures="0", errors="0", skipped="1")
        case = ET.SubElement(suite, "testcase", classname=f"evals.{name}", name="asked")
        ET.SubElement(case, "skipped", message="this run leaves the suite out")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def write_all(folder: Path, manifest: Manifest, verdicts: Sequence[Verdict]) -> dict[str, Path]:
    """`report.md`, `report.html` and `junit.xml` in `folder`."""
    made = {
        "report.md": markdown(manifest, verdicts),
        "report.html": html(manifest, verdicts),
        "junit.xml": junit(verdicts, manifest.unasked),
    }
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return {name: folder / name for name in made}


def number(value: float) -> str:
    """As in a table: nothing of NaN, "nothing" of an infinite loss, which is one that cannot be."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "nothing"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def _signed(value: float) -> str:
    if abs(value) < 0.0005:
        return "0"  # and not +0.000, nor -0.000
    return f"{value:+.3f}" if abs(value) < 100 else f"{value:+,.0f}"
