"""What can go wrong in a request, and how the caller is told: OpenAI's error shape.

GatewayError
  Refused                  the gateway's own decision; counted in gateway_rejections_total by code
    BadRequest             400
    PromptTooLong          400
    InvalidKey             401
    AssistantNotAllowed    403
    UnknownAssistant       404
    UnknownRoute           404
    WrongMethod            405
    BodyTooSlow            408
    BodyTooLarge           413
    TooManyInFlight        429
    NotReady               503
  EngineRefused            400
  EngineFailed             502
  EngineUnreachable        502
  EngineBusy               503
  ShuttingDown             503
  FirstTokenTimeout        504
  TotalTimeout             504
  CallerLeft               499, never seen by a caller
  InternalError            500
"""

from typing import ClassVar

from stack.service.errors import ServiceError


class GatewayError(ServiceError):
    """Any of them."""


class Refused(GatewayError):
    """The gateway decided not to serve this request."""

    type = "invalid_request_error"


class BadRequest(Refused):
    """The body is no chat request that the gateway understands."""

    status, code = 400, "bad_request"


class PromptTooLong(Refused):
    """The rendered messages have more characters than limits.prompt_chars."""

    status, code = 400, "prompt_too_long"


class InvalidKey(Refused):
    """No API key, or one that belongs to nobody."""

    status, type, code = 401, "authentication_error", "invalid_api_key"
    headers: ClassVar = {"www-authenticate": "Bearer"}


class AssistantNotAllowed(Refused):
    """The assistant exists, and this tenant may not use it."""

    status, type, code = 403, "permission_error", "assistant_not_allowed"


class UnknownAssistant(Refused):
    """The request's `model` names no assistant."""

    status, code = 404, "unknown_assistant"


class UnknownRoute(Refused):
    """No such path."""

    status, code = 404, "unknown_route"


class WrongMethod(Refused):
    """The path exists, with another method."""

    status, code = 405, "wrong_method"


class BodyTooSlow(Refused):
    """The body did not arrive within timeouts.body_seconds."""

    status, type, code = 408, "timeout_error", "body_timeout"


class BodyTooLarge(Refused):
    """The body has more bytes than limits.body_bytes."""

    status, code = 413, "body_too_large"


class TooManyInFlight(Refused):
    """limits.in_flight chat requests are in progress already."""

    status, type, code = 429, "rate_limit_error", "too_many_in_flight"
    headers: ClassVar = {"retry-after": "1"}


class NotReady(Refused):
    """The engine does not say that it is ready."""

    status, type, code = 503, "server_error", "not_ready"
    headers: ClassVar = {"retry-after": "1"}


class EngineRefused(GatewayError):
    """The engine answered 4xx: the request does not fit the model, for example its context."""

    status, type, code = 400, "invalid_request_error", "engine_refused"


class EngineFailed(GatewayError):
    """The engine answered 5xx, or broke off its answer."""

    status, code = 502, "engine_failed"


class EngineUnreachable(GatewayError):
    """No connection to the engine."""

    status, code = 502, "engine_unreachable"


class EngineBusy(GatewayError):
    """The engine turned the request away for lack of room."""

    status, code = 503, "engine_busy"
    headers: ClassVar = {"retry-after": "1"}


class ShuttingDown(GatewayError):
    """The gateway stops before the answer is complete."""

    status, code = 503, "shutting_down"


class FirstTokenTimeout(GatewayError):
    """No text of a streamed answer within timeouts.first_token_seconds."""

    status, type, code = 504, "timeout_error", "first_token_timeout"


class TotalTimeout(GatewayError):
    """The answer was not complete within timeouts.total_seconds."""

    status, type, code = 504, "timeout_error", "total_timeout"


class CallerLeft(GatewayError):
    """The caller closed the connection; the status is nginx's for the same event."""

    status, code = 499, "caller_left"


class InternalError(GatewayError):
    """A fault of the gateway itself."""
