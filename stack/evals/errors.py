"""What can go wrong with an evaluation, each with what to do in its message."""


class EvaluationError(Exception):
    """An evaluation cannot be made or judged."""


class NoBaseline(EvaluationError):
    """There is nothing to compare with; the message says why and how to make it."""


class ResultsError(EvaluationError):
    """A run's folder cannot be used; the message says why and what to do."""


class NotComparable(EvaluationError, ValueError):
    """A run and its baseline are of different examples or scores: there is no verdict."""


class TrackingFailed(EvaluationError):
    """A run could not be recorded; the message says why. Its folder has everything."""
