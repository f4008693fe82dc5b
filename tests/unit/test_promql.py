"""What an expression uses, read from its text."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.promql import MAX_CHARS, QueryError, Selector, metric_names, read


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up", {"up"}),
        ("vllm:num_requests_waiting", {"vllm:num_requests_waiting"}),
        ('sum by (job) (rate(a_total{job="x"}[30s])) / (sum without (b) (c) > 0)', {"a_total", "c"}),
        ("a and on (b) c unless ignoring (d, e) f", {"a", "c", "f"}),
        ("a * on (b) group_left (c, d) e / on () group_right f", {"a", "e", "f"}),
        ("SUM(a) Or AVG BY (b) (c)", {"a", "c"}),
        ("histogram_quantile(0.9, sum(rate(a_bucket[1m])) by (le))", {"a_bucket"}),
        ("1 + 2.5e-3 + .5 + 0x1F + Inf - NaN", set()),
        ("inflight_total + nan:rate + on_call + by_job", {"inflight_total", "nan:rate", "on_call", "by_job"}),
        ('{__name__="a:b", job="c"}', {"a:b"}),
        ("max_over_time(rate(a[30s])[5m:10s])", {"a"}),
        ('count_values("version", a)', {"a"}),
        ("rate # not this (\n (a[30s]) # nor b", {"a"}),
    ],
)
def test_the_names_of_metrics_are_told_from_labels_functions_and_keywords(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names


@pytest.mark.parametrize("hidden", ['"b"', "'b'", "`b`", '"\\"b"', "# b\n"])
def test_a_metric_in_a_text_or_a_comment_is_not_used(hidden: str) -> None:
    assert metric_names(f"a or {hidden} c") == {"a", "c"}


def test_labels_that_are_matched_on_are_found_in_every_notation() -> None:
    found = read('a{instance="x"} + b{job!="y", instance=~"z",} + c{"instance"="w"} + d').selectors
    assert [selector.labels for selector in found] == [
        {"instance"},
        {"job", "instance"},
        {"instance"},
        frozenset(),
    ]


def test_a_brace_in_a_matched_text_does_not_end_the_matchers() -> None:
    expected = (Selector("a", frozenset({"b", "instance"})),)
    assert read('a{b="}", instance="x"}').selectors == expected


def test_a_comment_between_matchers_hides_nothing() -> None:
    assert read('a{b="c", # }\n instance="x"}').selectors == (Selector("a", frozenset({"b", "instance"})),)


@pytest.mark.parametrize("selector", ['{job="a"}', '{__name__=~"a.*"}', '{__name__!="a"}', '{__name__=""}'])
def test_a_choice_of_series_by_pattern_has_no_name(selector: str) -> None:
    assert [found.metric for found in read(selector).selectors] == [None]


def test_functions_aggregations_operators_and_windows_are_listed() -> None:
    used = read("sum(rate(a[1m30s])) > bool 2 OR max_over_time(b[1h:5s] offset 5m) ^ (c @ end())")
    assert used.functions == {"sum", "rate", "max_over_time", "end"}
    assert used.operators == {">", "bool", "or", "offset", "^", "@"}
    assert used.windows == (90, 3600)
    assert used.reach_seconds == 3690


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("a;b", "from character 2 on"),
        ("a{b=c}", "label matchers look like"),
        ('a{b="c" d="e"}', "commas between them"),
        ("a{", "from character 2 on"),
        ("rate(a[5])", r"not a window such as \[30s\]"),
        ('a + "b', "from character 5 on"),
        ("a" * (MAX_CHARS + 1), f"longer than {MAX_CHARS}"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_says_where(expression: str, part: str) -> None:
    with pytest.raises(QueryError, match=part):
        read(expression)


@given(st.text(alphabet="ab_:(){}[]\"'`\\#\n,=~!<>@+-*/^% 015msh", max_size=60))
def test_no_text_makes_reading_fail_otherwise(text: str) -> None:
    with contextlib.suppress(QueryError):
        assert all(selector.metric != "" for selector in read(text).selectors)


_METRIC = st.from_regex(r"[a-z]{3,8}:[a-z_]{1,8}", fullmatch=True)


@given(st.lists(_METRIC, min_size=1, max_size=6), st.data())
def test_every_metric_of_a_built_expression_is_found(metrics: list[str], data: st.DataObject) -> None:
    shapes = ["sum({})", "rate({}[30s])", '{}{{a="b # c"}}', "({} > 0)", "sum by (x) ({})", "{} # end\n"]
    parts = [data.draw(st.sampled_from(shapes)).format(metric) for metric in metrics]
    assert metric_names(" + ".join(parts)) == set(metrics)
