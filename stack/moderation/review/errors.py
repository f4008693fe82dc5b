"""What can go wrong with the review queue.

ServiceError
  QueueFull      429
  QueueDown      503
  NotFound       404
  LeaseLost      409
  AlreadyDecided 409
"""

from typing import ClassVar

from stack.service.errors import ServiceError, TooMany


class QueueFull(TooMany):
    """The queue holds review.capacity undecided items."""

    code = "review_queue_full"


class QueueDown(ServiceError):
    """The queue's database does not answer."""

    status, code = 503, "review_queue_down"
    headers: ClassVar = {"retry-after": "1"}


class LeaseLost(ServiceError):
    """The lease is not the item's, or has run out: somebody else may have the item."""

    status, type, code = 409, "conflict_error", "lease_lost"


class AlreadyDecided(ServiceError):
    """The item was decided before, and otherwise."""

    status, type, code = 409, "conflict_error", "already_decided"
