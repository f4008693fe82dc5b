"""Diagnoses graded on recordings: an incident, health, and a decoy that has the same symptom from another cause.

The incident: prompts stop sharing their beginning, so first tokens take seconds. The decoy: the same traffic on an
engine that may run too few requests at once.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from recordings import a_recording

from lab.diagnosis import Accepted, Diagnosis, DiagnosisResult, Recordings, Truth, grade, middle, moments
from lab.evidence import compare, no_sizes, of_shares, of_symptoms, refusals
from lab.promql import QueryError
from lab.recording import Recording, RecordingError, load, save
from lab.replay import Replay
from lab.scenario import all_ids, find

RUNS = {
    "broken": {"hits": 2, "ttft": 8.0, "running": 16, "waiting": 9, "before": 3_000, "start": 1.7e9},
    "healthy": {"hits": 95, "ttft": 0.2, "running": 3, "waiting": 0, "before": 100, "start": 1.8e9},
    "decoy": {"hits": 94, "ttft": 9.0, "running": 1, "waiting": 11, "before": 200, "start": 1.9e9},
}
RIGHT = ("llm-kv-cache", "prefix-never-matches")
HIT_SHARE = "sum(rate(vllm:prefix_cache_hits_total[30s])) / (sum(rate(vllm:prefix_cache_queries_total[30s])) > 0)"


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    folder = tmp_path_factory.mktemp("incident")
    for run, made in RUNS.items():
        metrics = {
            "up": lambda _: 1,
            "vllm:prefix_cache_queries_total": lambda s: 100 * s,
            "vllm:prefix_cache_hits_total": lambda s, made=made: made["hits"] * s,
            "vllm:time_to_first_token_seconds_sum": lambda s, made=made: made["ttft"] * s,
            "vllm:time_to_first_token_seconds_count": lambda s: s,
            "vllm:num_requests_running": lambda _, made=made: made["running"],
            'vllm:num_requests_waiting{engine="0"}': lambda _, made=made: made["waiting"],
            'vllm:num_requests_waiting{engine="1"}': lambda _, made=made: made["waiting"],
            "vllm:generation_tokens_total": lambda s, made=made: made["before"] + 50 * s,
            "vllm:num_preemptions_total": lambda _: 0,
            "process_start_time_seconds": lambda _, made=made: made["start"],
        }
        save(a_recording(metrics), folder / f"{run}.json.gz")
    return Truth.model_validate(
        {
            "accepted": [
                {"component": RIGHT[0], "mechanism": RIGHT[1]},
                {"component": "gateway-prompt", "mechanism": RIGHT[1], "score": 0.5},
            ],
            "query": HIT_SHARE,
            "recordings": {run: folder / f"{run}.json.gz" for run in RUNS},
        }
    )


def graded(truth: Truth, query: str, component: str = RIGHT[0], mechanism: str = RIGHT[1]) -> DiagnosisResult:
    return grade(Diagnosis(component=component, mechanism=mechanism, query=query), truth)


def query_points(truth: Truth, query: str) -> tuple[float, str]:
    result = graded(truth, query)
    return result.query_points, result.sentences[1]


def test_the_right_explanation_with_evidence_gets_every_point(truth: Truth) -> None:
    result = graded(truth, truth.query or "")
    assert result.points == pytest.approx(1)
    assert result.values == pytest.approx({"broken": 0.02, "healthy": 0.95, "decoy": 0.94})
    assert result.sentences == (
        "llm-kv-cache with prefix-never-matches explains this incident.",
        "The query tells the runs apart: broken 0.02, healthy 0.95, decoy 0.94, at most 1/2 of both others.",
    )


@pytest.mark.parametrize(
    ("component", "mechanism", "points"),
    [
        (*RIGHT, 2 / 3),
        ("gateway-prompt", RIGHT[1], 1 / 3),
        (RIGHT[0], "too-few-sequences", 0),
        ("llm-scheduler", "too-few-sequences", 0),
    ],
)
def test_an_explanation_counts_two_thirds_and_only_as_an_accepted_pair(
    truth: Truth, component: str, mechanism: str, points: float
) -> None:
    """Exploit: name a component and a mechanism that are each right in some pair, but not together."""
    result = graded(truth, "", component, mechanism)
    assert result.points == pytest.approx(points)
    assert result.sentences[1] == "There is no query as evidence."


def test_evidence_counts_a_third_even_under_a_wrong_explanation(truth: Truth) -> None:
    assert graded(truth, HIT_SHARE, "telemetry", "alert-cannot-fire").points == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "query",
    [
        HIT_SHARE,
        "rate(vllm:prefix_cache_hits_total[60s])",
        "scalar(sum(rate(vllm:prefix_cache_hits_total[30s])))",
        "sum(rate(vllm:prefix_cache_queries_total[30s])) - sum(rate(vllm:prefix_cache_hits_total[30s]))",
        "vllm:prefix_cache_hits_total / (vllm:generation_tokens_total > 0)",
    ],
)
def test_any_query_that_tells_the_runs_apart_is_evidence(truth: Truth, query: str) -> None:
    assert query_points(truth, query)[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "query",
    [
        "rate(vllm:time_to_first_token_seconds_sum[30s]) / rate(vllm:time_to_first_token_seconds_count[30s])",
        "sum(vllm:num_requests_waiting)",
    ],
)
def test_the_symptom_is_no_evidence(truth: Truth, query: str) -> None:
    """Exploit: ask for the latency or the queue, which are bad in every incident of this kind."""
    points, sentence = query_points(truth, query)
    assert points == 0
    assert "other causes make it so as well" in sentence


def test_how_long_a_process_had_been_up_is_no_evidence(truth: Truth) -> None:
    """Exploit: a plain counter, which in these recordings differs by age of the process and by nothing else."""
    points, sentence = query_points(truth, "vllm:generation_tokens_total")
    assert points == 0
    assert "no difference" in sentence


def test_a_start_time_smuggled_in_beside_a_metric_of_the_stack_is_no_evidence(truth: Truth) -> None:
    """Exploit: add zero times an honest metric to a number that belongs to one process."""
    smuggled = "sum(process_start_time_seconds) - 1.69e9 + 0 * sum(vllm:num_requests_running)"
    with pytest.raises(QueryError, match="process_start_time_seconds tells which process ran"):
        query_points(truth, smuggled)


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("vllm:num_requests_waiting", "broken: it gives 2 values"),
        ("rate(vllm:prefix_cache_hits_total)", "expected type range vector"),
        ("vllm:prefix_cache_hits_total[30s]", "window of samples"),
        ("sum(vllm:num_requests_running", "unclosed left parenthesis"),
        ("up", "names no metric of the stack"),
        ("sum(vllm:num_requests_waiting > 0)", "healthy: no value"),
        ("sum(rate(vllm:num_preemptions_total[30s])) / sum(rate(vllm:num_preemptions_total[30s]))", "not a number"),
        ("vllm:num_requests_running / on () sum(rate(vllm:num_preemptions_total[30s]))", "infinite"),
    ],
)
def test_a_query_that_cannot_be_evidence_is_no_answer(truth: Truth, query: str, part: str) -> None:
    """Bug: a slip in the query was graded, and cost points."""
    with pytest.raises(QueryError, match=part):
        query_points(truth, query)


def test_a_gauge_is_read_while_the_load_was_on(tmp_path: Path) -> None:
    """Bug: at a recording's end the queue is empty, and the grader said that there had been none."""
    files = {}
    for run, length in (("broken", 40.0), ("healthy", 1.0), ("decoy", 2.0)):
        files[run] = tmp_path / run
        queue = {
            "vllm:num_requests_waiting": lambda s, length=length: length if s < 50 else 0,
            "loadgen_offered_total": lambda s: min(s, 45),
        }
        save(a_recording(queue), files[run])
    truth = Truth(accepted=(Accepted(component=RIGHT[0], mechanism=RIGHT[1]),), recordings=Recordings(**files))
    result = graded(truth, "sum(vllm:num_requests_waiting)")
    assert result.values == {"broken": 40, "healthy": 1, "decoy": 2}


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("sum(vllm:num_preemptions_total) - sum(vllm:num_requests_running)", "below 0 counts as 0"),
        ("sum(rate(vllm:num_preemptions_total[30s]))", "no difference"),
        ("  ", "no query"),
    ],
)
def test_a_query_that_shows_nothing_gets_no_points_and_is_told_why(truth: Truth, query: str, part: str) -> None:
    points, sentence = query_points(truth, query)
    assert points == 0
    assert part in sentence


def test_paths_of_recordings_count_from_the_folder_given(truth: Truth) -> None:
    folder = truth.recordings.broken.parent
    near = Recordings(**{run: Path(f"{run}.json.gz") for run in RUNS})
    relative = truth.model_copy(update={"recordings": near})
    answer = Diagnosis(component=RIGHT[0], mechanism=RIGHT[1], query=HIT_SHARE)
    assert grade(answer, relative, folder).points == pytest.approx(1)


def test_without_a_recording_there_is_no_grade(truth: Truth, tmp_path: Path) -> None:
    lost = truth.recordings.model_copy(update={"decoy": tmp_path / "lost.gz"})
    with pytest.raises(RecordingError, match=r"lost\.gz"):
        graded(truth.model_copy(update={"recordings": lost}), HIT_SHARE)


@pytest.mark.parametrize(
    "query",
    [
        "clamp_min(vllm:num_requests_running - 10, 0)",
        "vllm:num_requests_running - 9.6",  # of 16: at half as much again it is the square as much
        "vllm:num_requests_running - clamp_max(vllm:num_requests_running, 10)",
        "clamp_min(sum(vllm:num_requests_running) - (1+1) / (1/4), 0)",
        "vllm:num_requests_running - 0.9 * (vllm:generation_tokens_total / vllm:generation_tokens_total)",
        "stddev(sum by (job) (vllm:num_requests_running) or vector(2.5))",
    ],
)
def test_a_line_between_the_runs_is_no_evidence(truth: Truth, query: str) -> None:
    """Exploit: a quantity less a number that lies between makes something and nothing of any difference."""
    with pytest.raises(QueryError, match="give the quantity itself"):
        graded(truth, query)


TELL = {
    "answers-start-late": {
        "llm:prefix_cache_hits:ratio30s", "llm:prompt_tokens_computed_per_request:mean30s",
        "vllm:iteration_tokens_total", "vllm:prefix_cache_hits_total", "vllm:prompt_tokens_by_source_total",
        "vllm:prefix_cache_queries_total",  # throughput as well, but less the hits it is what is not found
        "vllm:prompt_tokens_cached_by_source_total", "vllm:prompt_tokens_cached_total",
        "vllm:request_prefill_kv_computed_tokens", "vllm:request_prefill_time_seconds",
    },
    "decisions-come-late": {
        "moderation:to_judge:ratio30s", "moderation_escalations_total", "moderation_judge_seconds",
        "moderation_score",
    },
    "pager-rings-every-night": {
        "drift_limit", "drift_p_value", "drift_usual_distance",
        "drift_detected",  # summed: against the rolling reference a change is soon over, and chance never is
    },
    "search-turns-vague": {
        "rag:legs_overlap:mean30s", "rag:nearest_passage:mean30s", "rag_dense_score_gap", "rag_dense_top_score",
        "rag_legs_overlap_ratio", "rag_rerank_moved_rank",
    },
    "worse-releases-pass": {
        "gate_difference_high", "gate_perfect_ratio", "gate_questions", "gate_round_seconds",
    },
}  # fmt: skip
"""What says what is wrong, by scenario: of all that was recorded nothing else may be evidence."""


def simple_queries(metric: str) -> Iterator[str]:
    """What somebody asks who only knows the name."""
    if metric.endswith("_bucket"):
        yield f"histogram_quantile(0.5, sum by (le) (rate({metric}[30s])))"
    elif metric.endswith("_sum"):
        yield f"sum(rate({metric}[30s]))"
        yield f"sum(rate({metric}[30s])) / sum(rate({metric.removesuffix('_sum')}_count[30s]))"
    elif metric.endswith(("_count", "_total")):
        yield f"sum(rate({metric}[30s])) or vector(0)"
    else:
        yield f"sum({metric})"
        yield f"avg_over_time(max({metric})[30s:1s])"


@pytest.mark.parametrize("name", all_ids())
def test_of_all_that_was_recorded_only_what_tells_the_cause_is_evidence(name: str) -> None:
    """Exploit: give the length of the queue, of which the decoy has less, or a twin of a metric that is no evidence."""
    scenario = find(name)
    truth, folder = scenario.truth.diagnosis, scenario.folder / "hidden"
    recordings = {run: load(folder / file) for run, file in truth.recordings}
    evidence = set()
    with Replay(recordings) as replay:
        for metric in recordings["broken"].metrics:
            for query in simple_queries(metric):
                if not refusals(query, recordings["broken"].metrics, 60) and not of_symptoms(query, truth.symptoms):
                    values = {run: value_in(replay, run, query, one) for run, one in recordings.items()}
                    if not no_sizes(values) and compare(values, truth.separation, of_shares(query)).separates:
                        evidence.add(re.sub("_(bucket|sum|count)$", "", metric))
    assert evidence <= TELL[name]
    assert truth.query is not None
    answer = Diagnosis(component="caller", mechanism="none", query=truth.query)
    assert grade(answer, truth, folder).query_points > 0


def value_in(replay: Replay, run: str, query: str, recording: Recording) -> float | None:
    found = [replay.query(run, query, before) for before in moments(recording)]
    return middle([samples[0].value if len(samples) == 1 else None for samples in found])


def test_how_far_what_is_usual_lies_above_the_limit_is_evidence() -> None:
    """Bug: the debrief's own words as a query were refused, since the usual distance lies below the limit elsewhere."""
    scenario = find("pager-rings-every-night")
    query = 'max(drift_usual_distance{reference="pinned"} - drift_limit{reference="pinned"})'
    answer = Diagnosis(component="telemetry", mechanism="threshold-misplaced", query=query)
    assert grade(answer, scenario.truth.diagnosis, scenario.folder / "hidden").points == pytest.approx(1)
