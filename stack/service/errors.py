"""What a service tells a caller when it does not serve: OpenAI's error shape, for all services.

ServiceError            500
  BadRequest            400
  NotFound              404
  WrongMethod           405
  BodyTooLarge          413
  TooMany               429
  InternalError         500
  NotReady              503

Services add errors of their own below ServiceError.
"""

import json
from typing import Any, ClassVar

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


class ServiceError(Exception):
    """`message` says what is wrong and what to do. It may quote the request, so it is never logged."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def body(self) -> bytes:
        """The error as one line of JSON."""
        error: dict[str, Any] = {
            "message": self.message, "type": self.type, "param": self.param, "code": self.code,
        }  # fmt: skip
        return json.dumps({"error": error}).encode()


class BadRequest(ServiceError):
    """The request is not what the route takes."""

    status, type, code = 400, "invalid_request_error", "bad_request"


class NotFound(ServiceError):
    """No such path, or nothing of that name."""

    status, type, code = 404, "invalid_request_error", "not_found"


class WrongMethod(ServiceError):
    """The path exists, with another method."""

    status, type, code = 405, "invalid_request_error", "wrong_method"


class BodyTooLarge(ServiceError):
    """The body has more bytes than the configuration allows."""

    status, type, code = 413, "invalid_request_error", "body_too_large"


class TooMany(ServiceError):
    """More at once than the configuration allows."""

    status, type, code = 429, "rate_limit_error", "too_many_requests"
    headers: ClassVar = {"retry-after": "1"}


class NotReady(ServiceError):
    """The service cannot serve yet, or not now."""

    status, type, code = 503, "server_error", "not_ready"
    headers: ClassVar = {"retry-after": "1"}


class InternalError(ServiceError):
    """A fault of the service itself."""


def responses(*errors: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a FastAPI route that may raise these errors; those of one status are told together."""
    found: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        told = (error.__doc__ or error.code).strip().splitlines()[0]
        before = found.get(error.status, {}).get("description")
        found[error.status] = {"model": ErrorBody, "description": f"{before} {told}" if before else told}
    return found
