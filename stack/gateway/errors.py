"""What can go wrong in a request, and how the caller is told: OpenAI's error shape.

GatewayError
  Refused                  the gateway's own decision; counted in gateway_rejections_total by code
    BadRequest             400
    PromptTooLong          400
    ContentFiltered        400
    ContentUnchecked       400
    InvalidKey             401
    AssistantNotAllowed    403
    CollectionNotAllowed   403
    RouteNotAllowed        403
    UnderReview            403
    UnknownAssistant       404
    UnknownRoute           404
    WrongMethod            405
    BodyTooSlow            408
    BodyTooLarge           413
    TooManyInFlight        429
    Limited                429, by a limit of the tenant
      TooManyConcurrent
      RateLimitExceeded
      TokenLimitExceeded
    NotReady               503
    UpstreamUnavailable    503
    ModerationUnavailable  503
  UpstreamError            its code begins with the upstream's name
    UpstreamRefused        400
    UpstreamFailed         502
    UpstreamUnreachable    502
    UpstreamBusy           503
  ShuttingDown             503
  FirstTokenTimeout        504
  TotalTimeout             504
  CallerLeft               499, never seen by a caller
  InternalError            500
"""

from math import ceil
from typing import ClassVar

from stack.service.errors import ServiceError


class GatewayError(ServiceError):
    """Any of them."""


class Refused(GatewayError):
    """The gateway decided not to serve this request."""

    type = "invalid_request_error"


class BadRequest(Refused):
    """The body is nothing that this route understands."""

    status, code = 400, "bad_request"


class PromptTooLong(Refused):
    """The rendered messages have more characters than limits.prompt_chars."""

    status, code = 400, "prompt_too_long"


class ContentFiltered(Refused):
    """Moderation blocked what the caller wrote, or the answer to it."""

    status, code = 400, "content_filter"


class ContentUnchecked(Refused):
    """Moderation refuses to read the text, so that nobody knows what is in it."""

    status, code = 400, "content_unchecked"


class InvalidKey(Refused):
    """No API key, or one that belongs to nobody."""

    status, type, code = 401, "authentication_error", "invalid_api_key"
    headers: ClassVar = {"www-authenticate": "Bearer"}


class AssistantNotAllowed(Refused):
    """The assistant exists, and this tenant may not use it."""

    status, type, code = 403, "permission_error", "assistant_not_allowed"


class CollectionNotAllowed(Refused):
    """This tenant may not use the collection, whether it exists or not."""

    status, type, code = 403, "permission_error", "collection_not_allowed"


class RouteNotAllowed(Refused):
    """This tenant may not use the route."""

    status, type, code = 403, "permission_error", "route_not_allowed"


class UnderReview(Refused):
    """People have to decide about the text first."""

    status, type, code = 403, "permission_error", "under_review"


class UnknownAssistant(Refused):
    """The request's `model` names no assistant."""

    status, code = 404, "unknown_assistant"


class UnknownRoute(Refused):
    """No such path."""

    status, code = 404, "unknown_route"


class WrongMethod(Refused):
    """The path exists, with another method."""

    status, code = 405, "wrong_method"

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.headers = {"allow": allowed}


class BodyTooSlow(Refused):
    """The body did not arrive within timeouts.body_seconds."""

    status, type, code = 408, "timeout_error", "body_timeout"


class BodyTooLarge(Refused):
    """The body has more bytes than limits.body_bytes."""

    status, code = 413, "body_too_large"


class TooManyInFlight(Refused):
    """limits.in_flight requests are in progress already."""

    status, type, code = 429, "rate_limit_error", "too_many_in_flight"
    headers: ClassVar = {"retry-after": "1"}


class Limited(Refused):
    """A limit of the tenant is reached."""

    status, type = 429, "rate_limit_error"

    def __init__(self, message: str, wait_seconds: float | None) -> None:
        """`wait_seconds`: after that it may work; None where waiting does not help."""
        super().__init__(message)
        self.headers = {} if wait_seconds is None else _retry_after(wait_seconds)


class TooManyConcurrent(Limited):
    """The tenant has as many requests in progress as it may."""

    code = "too_many_concurrent"


class RateLimitExceeded(Limited):
    """The tenant has sent as many requests as it may in this time."""

    code = "rate_limit_exceeded"


class TokenLimitExceeded(Limited):
    """The tenant has used as many tokens as it may in a minute."""

    code = "token_limit_exceeded"


class NotReady(Refused):
    """The service that the route needs does not say that it is ready."""

    status, type, code = 503, "server_error", "not_ready"
    headers: ClassVar = {"retry-after": "1"}


class UpstreamUnavailable(Refused):
    """The service that the route needs failed again and again, and is left alone for a while."""

    status, type, code = 503, "server_error", "upstream_unavailable"

    def __init__(self, message: str, wait_seconds: float) -> None:
        super().__init__(message)
        self.headers = _retry_after(wait_seconds)


class ModerationUnavailable(Refused):
    """The text has to be checked, and moderation cannot be asked."""

    status, type, code = 503, "server_error", "moderation_unavailable"
    headers: ClassVar = {"retry-after": "1"}


class UpstreamError(GatewayError):
    """A service behind the gateway did not serve."""

    kind: ClassVar[str]

    def __init__(self, upstream: str, message: str) -> None:
        """`upstream` is what the codes of its errors begin with."""
        super().__init__(message)
        self.code = f"{upstream}_{self.kind}"


class UpstreamRefused(UpstreamError):
    """The service answered 4xx: the request does not suit it, for example the context of a model."""

    status, type, kind = 400, "invalid_request_error", "refused"


class UpstreamFailed(UpstreamError):
    """The service answered 5xx, or broke off its answer."""

    status, kind = 502, "failed"


class UpstreamUnreachable(UpstreamError):
    """No connection to the service."""

    status, kind = 502, "unreachable"


class UpstreamBusy(UpstreamError):
    """The service turned the request away for lack of room."""

    status, kind = 503, "busy"
    headers: ClassVar = {"retry-after": "1"}


class ShuttingDown(GatewayError):
    """The gateway stops before the answer is complete."""

    status, code = 503, "shutting_down"


class FirstTokenTimeout(GatewayError):
    """No text of a streamed answer within first_token_seconds."""

    status, type, code = 504, "timeout_error", "first_token_timeout"


class TotalTimeout(GatewayError):
    """The answer was not complete within total_seconds."""

    status, type, code = 504, "timeout_error", "total_timeout"


class CallerLeft(GatewayError):
    """The caller closed the connection; the status is nginx's for the same event."""

    status, code = 499, "caller_left"


class InternalError(GatewayError):
    """A fault of the gateway itself."""


def _retry_after(seconds: float) -> dict[str, str]:
    return {"retry-after": str(max(1, ceil(seconds)))}
