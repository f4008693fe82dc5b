"""A page about drift: what a traffic log looks like beside its reference, window by window."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader

from stack.drift.config import DriftConfig
from stack.drift.monitor import Looked, Monitor, Reference
from stack.drift.traffic import Log, Parser, Searches

MOST_REFUSED = 0.05
"""Of the searches that can be compared: with more, windows would say nothing about what came."""


def look(config: DriftConfig, traffic: Path, reference: Searches | None) -> list[Looked]:
    """Every full window of a traffic log; without a `reference` the log's first searches are it.

    Searches of the reference are in no window. Raises OSError, and ValueError: too few searches.
    """
    parser = Parser(config.collection, reference.dimensions if reference is not None else None)
    traffic.stat()  # a file that is not there yet is none to wait for
    searches = Log(traffic, parser).new()
    if searches is None:
        raise ValueError(f"{traffic}: no search of the collection '{config.collection}' that can be compared")
    if parser.refused > MOST_REFUSED * len(searches):
        raise ValueError(
            f"{traffic}: {parser.refused} searches cannot be compared with the {len(searches)} others: they have no "
            "vector, or one of another length"
        )
    if reference is None:
        reference = searches[: config.reference.searches]
    searches = searches[~np.isin(searches.at, reference.at)]  # what a monitor has collected is in its log as well
    if len(searches) < config.window.searches:
        raise ValueError(
            f"{traffic}: {len(searches)} searches are left to compare; a window has {config.window.searches}: log "
            "more, or make the windows smaller"
        )
    return list(Monitor(config, Reference(reference, config)).take(searches))


def summary(config: DriftConfig, looked: Sequence[Looked]) -> list[dict[str, Any]]:
    """What each detector says of the pinned reference: the usual distance, the limit, the windows' median and how many
    are beyond."""
    by_detector = {
        name: [one for window in looked for one in window.compared if (one.detector, one.reference) == (name, "pinned")]
        for name in config.detectors
    }
    return [
        {
            "detector": name,
            "distance": config.detectors[name].distance,
            "signal": config.detectors[name].signal,
            "usual": found[-1].usual,
            "limit": found[-1].limit,
            "median": median(one.distance for one in found),
            "beyond": sum(one.beyond for one in found),
        }
        for name, found in by_detector.items()
    ]


def page(config: DriftConfig, looked: Sequence[Looked]) -> str:
    """The report as HTML that needs nothing from elsewhere."""
    plots = [(name, _plot(name, looked)) for name in config.detectors]
    pages = Environment(loader=PackageLoader("lab", "templates"), autoescape=True)
    return pages.get_template("drift.html").render(
        config=config, looked=looked, plots=plots, detectors=summary(config, looked)
    )


def _plot(detector: str, looked: Sequence[Looked]) -> str:
    """Distances of each window with their limit and what is usual, as a PNG in base64."""
    import matplotlib  # takes a second: not for --help

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 2.6), layout="constrained")
    for which, style in (("pinned", "o-"), ("rolling", ".--")):
        found = [
            (one.number, c) for one in looked for c in one.compared if (c.detector, c.reference) == (detector, which)
        ]
        if found:
            axes.plot([number for number, _ in found], [c.distance for _, c in found], style, label=which, linewidth=1)
    last = next(c for c in looked[-1].compared if c.detector == detector)
    axes.axhline(last.limit, color="tab:red", linewidth=1, label="limit")
    axes.axhline(last.usual, color="gray", linewidth=1, linestyle=":", label="usual without drift")
    axes.set_xlabel("window")
    axes.set_ylabel("distance")
    axes.legend(loc="upper left", fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    pyplot.close(figure)
    return base64.b64encode(content.getvalue()).decode()
