"""PromQL as a language: which metrics, labels, functions and windows an expression uses.

Prometheus has no interface that tells, and the grader and the tests of rules, panels and scenarios must know.
Only the words of the language are told apart here; whether they make a valid expression Prometheus says.
"""

import math
import re
from dataclasses import dataclass, replace

MAX_CHARS = 10_000

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
_COMMENT = r"\#[^\n]*"
_STRING = r""" "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | `[^`]*` """
_NAME = r"[A-Za-z_:][A-Za-z0-9_:]*"
_DURATION = r"(?:[0-9]+(?:ms|[smhdwy]))+"
_AGGREGATION = "sum|min|max|avg|group|stddev|stdvar|count_values|count|bottomk|topk|quantile|limitk|limit_ratio"
_NO_OPERATION = frozenset(["bool", "offset", "@", "group_left", "group_right"])
_COMPARISONS = frozenset(["==", "!=", ">", "<", ">=", "<="])
_TAKES_A_NUMBER = frozenset(["histogram_quantile", "quantile", "quantile_over_time", "topk", "bottomk"])
_TOKEN = re.compile(
    rf"""(?P<skip> \s+ | {_COMMENT} | {_STRING})
       | (?P<range> \[ [^\]]* \])
       | (?P<braces> \{{ (?: {_COMMENT} | {_STRING} | [^}}"'`\#] )* \}})
       | (?P<number> 0[xX][0-9a-fA-F]+ | {_DURATION}\b | ([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?
                   | (?i:inf|nan)\b(?!:) )
       | (?P<labels> (?i:by|without|on|ignoring|group_left|group_right) \s* \( [^)]* \))
       | (?P<operator> (?i:and|or|unless|atan2|bool|offset|group_left|group_right)\b(?!:)
                     | =~ | !~ | != | == | <= | >= | [-+*/%^<>@])
       | (?P<aggregation> (?i:{_AGGREGATION})\b(?!:))
       | (?P<function> {_NAME} (?= (?: \s | {_COMMENT} )* \( ))
       | (?P<metric> {_NAME})
       | (?P<bracket> [(),])""",
    re.VERBOSE,
)
_RANGE = re.compile(rf"\[\s*({_DURATION})\s*(:\s*({_DURATION})?\s*)?\]")
_MATCHER = re.compile(
    rf"""\s* (?:{_COMMENT}\s*)* (?P<label> {_NAME} | {_STRING} ) \s* (?P<operator> =~ | !~ | != | =) \s*
         (?P<value> {_STRING} ) \s* (?:,|$)""",
    re.VERBOSE,
)


class QueryError(Exception):
    """An expression that cannot be evaluated; the message says what is wrong with it."""


@dataclass(frozen=True)
class Selector:
    """A choice of series: `metric` is None where it has no fixed name, `labels` are those matched on."""

    metric: str | None
    labels: frozenset[str] = frozenset()
    divides: bool = False
    """Whether something else is divided by it."""


@dataclass(frozen=True)
class Expression:
    """What an expression uses.

    `functions` includes aggregations; `operators` are symbols and lower-case words, `offset`, `@` and `bool`
    too; `windows` are the seconds of each `[…]`, subqueries too.
    """

    selectors: tuple[Selector, ...]
    functions: frozenset[str]
    operators: frozenset[str]
    windows: tuple[float, ...]
    constants: tuple[float, ...] = ()
    """Numbers that values are added to, multiplied by or compared with; not what a quantile or topk takes."""
    limits: tuple[float, ...] = ()
    """What stands behind a comparison: a number, NaN for anything else."""

    @property
    def metrics(self) -> frozenset[str]:
        """The names of all metrics that are selected by name."""
        return frozenset(selector.metric for selector in self.selectors if selector.metric)

    @property
    def reach_seconds(self) -> float:
        """How far back from the evaluation time a sample can matter, without `offset`, `@` and lookback."""
        return math.fsum(self.windows)


def read(expression: str) -> Expression:
    """The parts of `expression`. Raises QueryError where its words cannot be told apart."""
    selectors: list[Selector] = []
    used: dict[str, set[str]] = {"function": set(), "operator": set(), "aggregation": set()}
    windows: list[float] = []
    constants: list[float] = []
    limits: list[float] = []
    before, last = ("", ""), ("", "")  # the tokens before, label lists left out
    divisors = [False]  # by depth of brackets: whether what stands there divides
    for kind, text in _tokens(expression):
        if kind == "range":
            windows.append(_window_seconds(text))
        elif kind == "braces":
            name = selectors.pop().metric if last[0] == "metric" else None
            selectors.append(replace(_selector(name, text[1:-1]), divides=divisors[-1]))
        elif kind == "metric":
            selectors.append(Selector(text, divides=divisors[-1]))
        elif kind in used:
            used[kind].add(text if kind == "function" else text.lower())
        if text == "(":
            divisors.append(divisors[-1])
        elif text == ")":
            divisors = divisors[:-1] or [False]
        elif text == "," or (kind == "operator" and text.lower() not in _NO_OPERATION):
            divisors[-1] = text == "/" or (len(divisors) > 1 and divisors[-2])
        if kind == "number" and not (last[1] == "(" and before[1].lower() in _TAKES_A_NUMBER):
            constants.append(_number(text))
        if last[1] in _COMPARISONS and text != "bool":
            limits.append(_number(text) if kind == "number" else math.nan)
        if kind != "labels":
            before, last = last, (kind, text)
    functions = frozenset(used["function"] | used["aggregation"])
    return Expression(
        tuple(selectors), functions, frozenset(used["operator"]), tuple(windows), tuple(constants), tuple(limits)
    )


def metric_names(expression: str) -> frozenset[str]:
    """The metrics that `expression` selects by name. Raises QueryError."""
    return read(expression).metrics


def _tokens(expression: str) -> list[tuple[str, str]]:
    if len(expression) > MAX_CHARS:
        raise QueryError(f"the expression is longer than {MAX_CHARS} characters")
    found = []
    at = 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise QueryError(f"not PromQL from character {at + 1} on: {expression[at : at + 20]!r}")
        at = match.end()
        if match.lastgroup != "skip":
            found.append((str(match.lastgroup), match.group()))
    return found


def _number(text: str) -> float:
    """A number as PromQL writes it; durations are seconds."""
    if re.fullmatch(_DURATION, text):
        return _seconds(text)
    return float(int(text, 16)) if text.lower().startswith("0x") else float(text)


def _seconds(text: str) -> float:
    return sum(int(count) * _SECONDS[unit] for count, unit in re.findall(r"([0-9]+)(ms|[smhdwy])", text))


def _window_seconds(text: str) -> float:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise QueryError(f"not a window such as [30s] or a subquery such as [1m:5s]: {text}")
    return _seconds(match[1])


def _selector(name: str | None, inside: str) -> Selector:
    """A selector from what stands between its braces."""
    labels = set()
    at = 0
    while rest := re.sub(r"^(\s|#[^\n]*)+", "", inside[at:]):
        match = _MATCHER.match(rest)
        if match is None:
            raise QueryError(f'label matchers look like {{label="value"}}, with commas between them: {rest!r}')
        label = match["label"].strip("\"'`")  # quoted label names are PromQL of Prometheus 3
        if label == "__name__" and match["operator"] == "=" and name is None:
            name = match["value"].strip()[1:-1] or None
        labels.add(label)
        at = len(inside) - len(rest) + match.end()
    return Selector(name, frozenset(labels - {"__name__"}))
