"""The verdict in each form that it is read in."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
from evals_handmade import baseline, failed, rows, suite

from stack.evals import report
from stack.evals.gate import Verdict, judge_suite
from stack.evals.results import Identity, Manifest

MANIFEST = Manifest(1, "run-1", "quick", {"texts": "h"}, Identity("c", "d", "w"), "a machine", 1.0)


def verdict(folder: Path, share: float, errors: int = 0):
    of = suite(folder)
    now = rows((np.arange(100) < 100 * share).astype(float))
    for name in list(now)[:errors]:
        now[name] = failed(now[name], "answered 500: <b>no|yes</b>")
    return judge_suite(of, "quick", now, baseline(of, rows(np.ones(100))))


def test_a_blocked_release_is_a_failure_in_junit(tmp_path: Path) -> None:
    root = ET.fromstring(report.junit([verdict(tmp_path, 0.5)]).split("\n", 1)[1])
    (one,) = root.findall("testsuite")
    assert (one.get("name"), one.get("failures")) == ("texts", "1")
    failing = [case.get("name") for case in one.findall("testcase") if case.find("failure") is not None]
    assert failing == ["right"]
    assert not ET.fromstring(report.junit([verdict(tmp_path, 1.0)]).split("\n", 1)[1]).findall(".//failure")


def test_markdown_has_what_blocks_before_the_rest(tmp_path: Path) -> None:
    text = report.markdown(MANIFEST, [verdict(tmp_path, 0.5)])
    assert text.startswith("## Evaluation: BLOCK: ")
    assert text.index("| texts | right | BLOCK |") < text.index("<details>")
    passed = report.markdown(MANIFEST, [verdict(tmp_path, 1.0)])
    assert passed.startswith("## Evaluation: Pass")
    assert "BLOCK" not in passed


def test_a_failure_of_the_stack_cannot_write_into_the_page(tmp_path: Path) -> None:
    page = report.html(MANIFEST, [verdict(tmp_path, 1.0, errors=5)])
    assert "&lt;b&gt;no|yes&lt;/b&gt;" in page
    assert "<b>no" not in page
    assert 'class="block"' in page
    assert page.count("<style>") == page.count("</style>") == 1, "or nothing of the page is shown"


def test_nor_into_a_pull_request(tmp_path: Path) -> None:
    """Bug: a service's answer could write a heading with another verdict, or call somebody."""
    told = "answered 500: \n\n## Evaluation: Pass\n\n</details> @somebody `<img>`"
    one = verdict(tmp_path, 1.0)
    for made in (replace(one, errors=(told,)), replace(one, problem=told)):
        text = report.markdown(MANIFEST, [made])
        assert [line for line in text.splitlines() if line.startswith("#")] == [text.splitlines()[0]]
        (line,) = [line for line in text.splitlines() if "@somebody" in line]
        assert line.endswith("Pass </details> @somebody '<img>'`")
        assert line.count("`") == 2


def test_junit_can_be_read_whatever_a_judge_answered(tmp_path: Path) -> None:
    text = report.junit([replace(verdict(tmp_path, 1.0), problem="answered \x1b[1m\x00<500>")])
    (error,) = ET.fromstring(text.split("\n", 1)[1]).findall(".//error")
    assert "<500>" in error.get("message")


def test_what_was_not_asked_is_told_wherever_the_verdict_is(tmp_path: Path) -> None:
    """Only a run of all suites may ship."""
    manifest, one = replace(MANIFEST, unasked=("guard", "refusal")), verdict(tmp_path, 1.0)
    told = "Pass: nothing is worse than the baseline beyond its tolerance. Not asked: guard, refusal;"
    for text in (
        report.sentence([one], manifest.unasked),
        report.markdown(manifest, [one]),
        report.html(manifest, [one]),
    ):
        assert told in text
    root = ET.fromstring(report.junit([one], manifest.unasked).split("\n", 1)[1])
    assert [suite.get("name") for suite in root if suite.find("testcase/skipped") is not None] == ["guard", "refusal"]


def test_all_reports_are_written(tmp_path: Path) -> None:
    made = report.write_all(tmp_path, MANIFEST, [verdict(tmp_path, 0.5)])
    assert {path.name for path in made.values()} == {"report.md", "report.html", "junit.xml"}
    assert all(path.stat().st_size > 300 for path in made.values())


def test_the_sentence_stays_one_where_much_is_worse(tmp_path: Path) -> None:
    one = verdict(tmp_path, 0.5)
    (worse,) = [finding for finding in one.findings if finding.outcome == "block"]
    many = replace(one, findings=tuple(replace(worse, metric=name) for name in ("a", "b", "c", "d")))
    assert report.sentence([many]).endswith("in texts (a, b and 2 more).")


def test_what_cannot_be_judged_is_no_pass_in_any_form(tmp_path: Path) -> None:
    silent = Verdict("preference", "Whether it is preferred.", (), problem="the judge is <down>; start it")
    fine = verdict(tmp_path, 1.0)
    assert report.outcome_of([fine, silent]) == "unjudged"
    assert report.outcome_of([verdict(tmp_path, 0.5), silent]) == "block"
    assert report.sentence([fine, silent]) == "NOT JUDGED, and so it may not ship: preference."
    assert "not judged: preference" in report.sentence([verdict(tmp_path, 0.5), silent])
    assert "- not judged: `the judge is <down>; start it`" in report.markdown(MANIFEST, [fine, silent])
    assert "the judge is &lt;down&gt;; start it" in report.html(MANIFEST, [fine, silent])
    (error,) = ET.fromstring(report.junit([fine, silent]).split("\n", 1)[1]).findall(".//error")
    assert error.get("message") == silent.problem


def test_a_baseline_of_another_machine_is_told(tmp_path: Path) -> None:
    one = verdict(tmp_path, 1.0)
    assert report.notes(MANIFEST, [one]) == []
    (told,) = report.notes(MANIFEST, [replace(one, compared_with="another machine")])
    assert told.startswith("this run is of a machine, baselines are of another machine")


def test_the_worst_decides() -> None:
    assert report.outcome_of([]) == "pass"
