"""What counts as evidence, and what the words of a diagnosis are. Values from recordings: tests/service."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.diagnosis import Truth, load_vocabulary
from lab.evidence import MAX_CHARS, SMALLEST, compare, grows_alike, no_sizes, of_shares, of_symptoms, refusals
from stack.settings import ConfigError, parse

STACK = {"vllm:num_requests_waiting", "vllm:prompt_tokens_total", "gateway_requests_total"}
RECORDED = frozenset(STACK | {"up", "process_cpu_seconds_total"})
GOOD = "sum(rate(vllm:prompt_tokens_total[30s]))"


def refused(query: str) -> str:
    return "; ".join(refusals(query, RECORDED, seconds=60))


def separates(broken: float, healthy: float, decoy: float, factor: float = 2.0) -> bool:
    return compare({"broken": broken, "healthy": healthy, "decoy": decoy}, factor).separates


def why(broken: float, healthy: float, decoy: float) -> str:
    return compare({"broken": broken, "healthy": healthy, "decoy": decoy}, 2.0).sentence


# ── which queries may be evidence at all ──


@pytest.mark.parametrize(
    "query",
    [
        GOOD,
        "max(vllm:num_requests_waiting)",
        'sum(rate(gateway_requests_total{status="503"}[30s])) / sum(rate(gateway_requests_total[30s]))',
        "sum(rate(vllm:prompt_tokens_total[1m])) or vector(0)",
        "sum by (instance) (vllm:num_requests_waiting)",
        "rate(process_cpu_seconds_total[30s]) / on (job) rate(vllm:prompt_tokens_total[30s])",
        "count_over_time((vllm:num_requests_waiting > 0)[30s:1s])",
        f"{GOOD} / (sum(rate(vllm:prompt_tokens_total[30s])) > 0)",
        f"100 * (1 - {GOOD})",
        "histogram_quantile(0.95, sum by (le) (rate(vllm:prompt_tokens_total[30s]))) - vllm:num_requests_waiting",
    ],
)
def test_queries_that_a_person_on_call_would_write_are_taken(query: str) -> None:
    assert refused(query) == ""


@pytest.mark.parametrize(
    "query",
    [
        "up",
        'sum(up{job="llm"})',
        "process_cpu_seconds_total",
        "python_gc_collections_total + up",
        "5",
        "vector(1)",
        "scalar(vector(2)) * 3",
        "scrape_duration_seconds",
        'ALERTS{alertname="QueueGrows"}',
    ],
)
def test_a_query_without_a_metric_of_the_stack_is_refused(query: str) -> None:
    """Exploit: a constant or a number that only says which process runs where might happen to differ."""
    assert "no metric of the stack" in refused(query)


@pytest.mark.parametrize(
    "query",
    [
        "time()",
        "time() - vllm:num_requests_waiting * 0",
        "timestamp(vllm:num_requests_waiting)",
        "vllm:num_requests_waiting * 0 + hour()",
        "minute() + vllm:num_requests_waiting",
    ],
)
def test_a_query_that_reads_the_clock_is_refused(query: str) -> None:
    """Exploit: each recording is evaluated at another time, so the clock alone tells them apart."""
    assert "cannot be used in evidence" in refused(query)


@pytest.mark.parametrize(
    "query",
    [
        "max(rag_index_age_seconds)",
        "sum(vllm:num_requests_waiting) / max(rag_index_age_seconds)",
        "drift_last_window_timestamp_seconds",
    ],
)
def test_a_metric_that_reads_the_clock_is_refused(query: str) -> None:
    """Exploit: an index is built before each run, and one run was recorded later after it than another."""
    assert "tells when something was done" in refused(query)


@pytest.mark.parametrize("hidden", ['"vllm:num_requests_waiting"', "# vllm:num_requests_waiting"])
def test_a_metric_in_a_text_or_comment_does_not_make_a_query_evidence(hidden: str) -> None:
    """Exploit: name a metric where it does nothing, to get past the rule that one must be named."""
    assert "no metric of the stack" in refused(f"up {hidden}")


@pytest.mark.parametrize("query", ['count({job="llm"})', 'sum({__name__=~"vllm:.*"})', f'{GOOD} + {{job="x"}}'])
def test_a_selector_without_a_metrics_name_is_refused(query: str) -> None:
    """Exploit: count which series happen to exist, which differs between any two runs."""
    assert "name the metric" in refused(query)


@pytest.mark.parametrize(
    "matcher", ['instance="127.0.0.1:20001"', 'instance!="x"', 'job="llm", instance=~".*1"', '"instance"="x"']
)
def test_a_match_on_instance_is_refused(matcher: str) -> None:
    """Exploit: a port belongs to one run, so matching on it picks a recording by name."""
    assert "instance" in refused(f"sum(vllm:num_requests_waiting{{{matcher}}}) or vector(0)")


@pytest.mark.parametrize(
    "query",
    [
        "vllm:num_requests_waiting offset 5m",
        "vllm:num_requests_waiting OFFSET -5m",
        "vllm:num_requests_waiting @ 1600000000",
        "max_over_time(vllm:num_requests_waiting[30s] @ end())",
    ],
)
def test_a_query_for_another_time_is_refused(query: str) -> None:
    """Exploit: point every evaluation at the one recording that has the value wanted."""
    assert "another time" in refused(query)


@pytest.mark.parametrize("window", ["[61s]", "[5m]", "[1h:1s]"])
def test_a_window_longer_than_the_recordings_is_refused(window: str) -> None:
    """Exploit: a window over the edge counts how long each recording is."""
    assert "recordings hold 60 s" in refused(f"count_over_time(vllm:num_requests_waiting{window})")


@pytest.mark.parametrize(
    "query",
    [
        f"{GOOD} ^ 50",
        f"exp({GOOD})",
        f"({GOOD} % 3) or vector(0)",
        "*".join([GOOD] * 5),
        f"sgn({GOOD} - 3)",
        f"{GOOD} atan2 1",
    ],
)
def test_a_query_that_blows_a_small_difference_up_is_refused(query: str) -> None:
    """Exploit: two runs never measure quite the same; the 50th power of 3 % is a factor of 4."""
    assert refused(query) != ""


@pytest.mark.parametrize(
    "query",
    [
        f"{GOOD} > bool 0.35",
        f"({GOOD} > 0.35) or vector(0)",
        f"({GOOD} < 2) * 0 + 1 or vector(0)",
        f"({GOOD} > {GOOD}) or vector(0)",
        f"({GOOD} > (0.35)) or vector(0)",
        f"0.35 < {GOOD}",
    ],
)
def test_a_comparison_that_draws_a_line_between_the_runs_is_refused(query: str) -> None:
    """Exploit: a number that lies between makes 1 and 0 of .33 and .17."""
    assert "give the quantity itself" in refused(query)


CAUSE = "sum(rate(vllm:prefix_cache_hits_total[30s]))"


@pytest.mark.parametrize(("query", "symptoms", "only"), [
    ("sum(rate(loadgen_requests_total[30s]))", (), True),
    ("loadgen:within_1s:ratio30s", (), True),
    ("vllm:num_requests_waiting / up", (), True),
    ("sum(rate(vllm:request_params_n_count[30s]))", (), True),
    ("drift_limit", (), False),
    ("drift_limit", ("drift_.*",), True),
    ("drift_limit", ("drift",), False),
    (f"sum(vllm:num_requests_waiting) + 0 * {CAUSE}", (), True),
    (f"vllm:num_requests_waiting and on () {CAUSE}", (), True),
    (f"{CAUSE} / sum(loadgen_requests_total)", (), False),
    (f"{CAUSE} / (sum(rate(loadgen_requests_total[30s])) > 0)", (), False),
    (f"{CAUSE} / 2 * sum(loadgen_requests_total)", (), True),
])  # fmt: skip
def test_what_callers_see_and_what_a_scenario_names_is_the_symptom_but_as_a_divisor(
    query: str, symptoms: tuple[str, ...], only: bool
) -> None:
    """Exploit: name another metric beside the queue, and do nothing with it."""
    assert of_symptoms(query, symptoms) is only


@pytest.mark.parametrize(("values", "twice", "alike"), [
    ((0.33, 0.64, 0.17), (0.66, 1.28, 0.34), True),  # x
    ((0.67, 0.36, 0.83), (0.67, 0.36, 0.83), True),  # 1 - a share of two counters
    ((4.0, 1.0, 0.0), (16.0, 4.0, 0.0), True),  # a product of two
    ((4.0, 1.0, 0.0), (2.0, 0.5, 0.0), True),  # 1 / x
    ((0.3, -0.1, -0.2), (0.6, -0.2, -0.4), True),  # x - y
    ((6.0, 0.0, 0.0), (22.0, 0.0, 0.0), False),  # clamp_min(x - 10, 0)
    ((0.02, 0.31, 0.16), (0.31, 0.95, 0.01), False),  # abs(x - .35)
    ((6.0, 0.0, 0.0), (12.0, 0.0, 0.1), False),
])  # fmt: skip
def test_a_quantity_grows_with_what_it_is_made_of(values, twice, alike: bool) -> None:
    runs = ("broken", "healthy", "decoy")
    found = grows_alike(dict(zip(runs, values, strict=True)), dict(zip(runs, twice, strict=True)), 2.0)
    assert found is alike


def test_a_metric_that_was_not_recorded_is_refused_with_the_nearest_name() -> None:
    assert "did you mean 'vllm:prompt_tokens_total'" in refused("rate(vllm:prompt_tokens[30s])")


def test_the_suggestion_is_never_a_metric_that_could_not_be_evidence() -> None:
    assert "'up'" not in refused("upp")


def test_every_reason_is_given_at_once() -> None:
    reasons = refusals('time() + {instance="x"} offset 5m', RECORDED, seconds=60)
    assert len(reasons) == 5


def test_a_query_that_cannot_be_read_is_refused() -> None:
    assert "cannot be read: label matchers look like" in refused("vllm:num_requests_waiting{job}")


def test_a_giant_query_is_not_even_read() -> None:
    assert refused("+".join([GOOD] * 100)) == f"the query is longer than {MAX_CHARS} characters"


# ── whether three values are told apart ──


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((4, 1, 2), True),
        ((4, 1, 2.01), False),
        ((1, 2, 4), True),
        ((1, 1.99, 4), False),
        ((2, 1, 4), False),
        ((0, 0.95, 0.93), True),
        ((0.5, 0, 0), True),
        ((0, 0, 5), False),
        ((0, 0, 0), False),
        ((SMALLEST, 0, 0), True),
        ((SMALLEST * 0.99, 0, 0), False),
        ((SMALLEST / 2, SMALLEST / 8, SMALLEST / 8), False),
    ],
)
def test_the_broken_value_must_be_twice_both_others_or_half_of_both(
    values: tuple[float, float, float], expected: bool
) -> None:
    assert separates(*values) is expected


def test_the_symptom_alone_is_no_evidence() -> None:
    """Exploit: ask for the latency; it differs from health in every incident that is about latency."""
    assert not separates(broken=8.0, healthy=0.2, decoy=7.5)
    assert "other causes make it so as well" in why(broken=8.0, healthy=0.2, decoy=7.5)


def test_a_value_between_the_others_does_not_stand_out() -> None:
    """Exploit: any quantity that differs at all is far from both others when directions may differ."""
    assert "between the others" in why(broken=10, healthy=1, decoy=100)


@pytest.mark.parametrize(("bad", "part"), [(None, "or vector(0)"), (math.nan, "not a number"), (math.inf, "infinite")])
def test_a_value_that_cannot_be_compared_is_explained_with_the_run_it_is_from(bad: float | None, part: str) -> None:
    """Exploit: empty, NaN and infinite answers compare as one likes."""
    (problem,) = no_sizes({"broken": 9, "healthy": bad, "decoy": -1})
    assert problem.startswith("healthy: ")
    assert part in problem


def test_what_is_below_nothing_counts_as_nothing() -> None:
    """Bug: how far what is usual lies above the limit, the debrief's own diagnosis, was refused: below it elsewhere."""
    assert separates(0.069, -0.001, -0.02)
    assert "healthy 0, decoy 0 (what is below 0 counts as 0)" in why(0.069, -0.001, -0.02)
    assert not separates(-3, -1, -1)
    assert not separates(0.069, -0.001, 0.05)


sizes, factors = st.floats(0, 1e12), st.floats(1.5, 100)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(sizes, sizes, sizes, factors)
def test_what_is_told_apart_is_on_one_side_of_both_and_far_enough(
    broken: float, healthy: float, decoy: float, factor: float
) -> None:
    if separates(broken, healthy, decoy, factor):
        low, high = min(healthy, decoy), max(healthy, decoy)
        assert broken >= factor * high or broken * factor <= low
        assert max(broken, low) >= SMALLEST


@given(sizes, sizes, sizes, factors)
def test_the_order_of_healthy_and_decoy_does_not_matter(
    broken: float, healthy: float, decoy: float, factor: float
) -> None:
    assert separates(broken, healthy, decoy, factor) == separates(broken, decoy, healthy, factor)


@given(sizes, sizes, sizes, factors, st.floats(0, 1))
def test_a_healthy_value_that_moves_further_away_never_takes_the_evidence_back(
    broken: float, healthy: float, decoy: float, factor: float, share: float
) -> None:
    if broken > healthy and separates(broken, healthy, decoy, factor):
        assert separates(broken, healthy * share, decoy, factor)


@given(sizes, factors)
def test_a_run_is_never_told_apart_from_itself(value: float, factor: float) -> None:
    assert not separates(value, value, value, factor)


@given(numbers, numbers, numbers, factors)
def test_every_comparison_is_explained(broken: float, healthy: float, decoy: float, factor: float) -> None:
    sentence = compare({"broken": broken, "healthy": healthy, "decoy": decoy}, factor).sentence
    assert sentence.startswith("The query ")
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("quantile(0.5, gate_perfect_ratio)", True),
        ("min(gate_perfect_ratio) and max(up)", True),
        ("sum(gateway_requests_total) / sum(gate_perfect_ratio)", False),
        ("sum(rate(rag_legs_overlap_ratio_bucket[1m]))", False),
        ("max(up)", False),
    ],
)
def test_a_name_says_that_it_is_a_share(query: str, expected: bool) -> None:
    assert of_shares(query) is expected


@pytest.mark.parametrize(
    ("broken", "healthy", "decoy", "expected"),
    [
        (1.0, 0.78, 0.8, True),
        (0.8, 0.99, 0.98, True),
        (0.8, 0.99, 0.82, False),
        (0.9995, 0.9999, 0.9998, False),  # less than what counts as nothing
        (0.5, 0.5, 0.5, False),
        (1.2, 1.0, 1.0, False),
    ],
)
def test_of_a_share_either_part_may_stand_out(broken, healthy, decoy, expected) -> None:
    """Bug: the share of perfect answers, 1 instead of .8, was refused as evidence, and 1 less the same accepted."""
    values = {"broken": broken, "healthy": healthy, "decoy": decoy}
    found = compare(values, 2.0, shares=True)
    assert found.separates is expected
    assert found.sentence.startswith("The query")
    assert not compare(values, 2.0).separates


# ── the words ──


def test_the_vocabulary_offers_enough_to_rule_out() -> None:
    vocabulary = load_vocabulary()
    assert len(vocabulary.components) >= 15
    assert len(vocabulary.mechanisms) >= 30
    meanings = [*vocabulary.components.values(), *vocabulary.mechanisms.values()]
    assert len(set(meanings)) == len(meanings)


def test_an_unknown_word_is_named_with_the_nearest_known_one() -> None:
    problems = load_vocabulary().problems(["llm-kv-cash", "telemetry"], ["prefix-never-match"])
    assert problems == [
        "unknown component 'llm-kv-cash'; did you mean 'llm-kv-cache'?",
        "unknown mechanism 'prefix-never-match'; did you mean 'prefix-never-matches'?",
    ]


TRUTH = """
accepted: [{component: llm-kv-cache, mechanism: prefix-never-matches}]
recordings: {broken: b.gz, healthy: h.gz, decoy: d.gz}
"""


def test_a_truth_has_full_score_and_a_factor_of_two_unless_it_says_otherwise() -> None:
    truth = parse(TRUTH, Truth, "truth.yaml")
    assert (truth.accepted[0].score, truth.separation) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("separation", "separation: 1.1", "separation"),
        ("accepted", "accepted: []", "accepted"),
        ("recordings", "recordings: {broken: b.gz, healthy: h.gz}", "recordings.decoy"),
        ("separation", "seperation: 2.0", "did you mean 'separation'"),
    ],
)
def test_a_truth_that_cannot_grade_is_an_error(old: str, new: str, problem: str) -> None:
    lines = [line for line in TRUTH.splitlines() if not line.startswith(old)]
    with pytest.raises(ConfigError, match=problem):
        parse("\n".join([*lines, new]), Truth, "truth.yaml")
