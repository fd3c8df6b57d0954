"""What a client is told when a request fails: OpenAI's error object, and nothing of our insides.

ApiError
├── status 400  a field that is wrong, unsupported or beyond a limit; `param` names it
├── status 401, 403, 404, 405   key, a foreign page or host, path or model, method
├── status 408, 413, 415, 429   slow body, large body, not sent as JSON, too many requests
└── status 500, 503   the server's own fault; the message says that much and the log says the rest
"""

from typing import Any

from fastapi.responses import JSONResponse

TYPE_BY_STATUS = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}
MAX_MESSAGE_CHARACTERS = 500


class ApiError(Exception):
    """One refused or failed request.

    Args:
        status: the HTTP status.
        message: for the person who sent the request.
        param: the field at fault, if one is.
        code: a short stable word for the fault.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message if len(message) <= MAX_MESSAGE_CHARACTERS else message[:MAX_MESSAGE_CHARACTERS] + "…"
        self.param = param
        self.code = code
        self.headers = headers

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPE_BY_STATUS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def server_failed() -> ApiError:
    """For a fault of our own; what happened stands in the log."""
    return ApiError(500, "the server failed to answer this request", code="internal_error")


def models_unavailable() -> ApiError:
    """For a model that failed or gave no answer."""
    return ApiError(503, "a model is not available; try again", code="model_unavailable", headers={"Retry-After": "5"})
