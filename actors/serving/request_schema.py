"""What a request may hold: the fields of OpenAI's API that mean something here, and `stars`, our own.

A field we do not support is refused by name, unless its value asks for nothing (null, or the API's own default):
clients send such values of their own accord.
"""

import difflib
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from actors.serving.api_errors import ApiError

UNION_MEMBER = re.compile(r"str|int|constrained-.*|.*\[.*")
MANY = Field(max_length=2048, fail_fast=True)  # of a million wrong items, one is enough to know
StopSequence = Annotated[str, Field(min_length=1)]
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}
IGNORED = frozenset({"metadata", "prompt_cache_key", "safety_identifier", "user"})  # about the client, not the answer


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    include_usage: bool = False


class StarsOptions(BaseModel):
    """The namespaced object: `strategy`, its knobs beside it, and what decides the draws.

    Args:
        id: with `seed`, what the draws are keyed by; that of a batch row gives the batch row's response.
        strategy: another strategy than the server's.
        top_k: as `generation.top_k`.
        show_rejected: stream rejected candidates too, in chunks of their own that have no text.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    id: str | int | None = None
    strategy: str | None = None
    top_k: int | None = Field(None, ge=0, lt=2**31)
    show_rejected: bool = False

    @property
    def knobs(self) -> dict[str, Any]:
        """Knobs of the strategy, unchecked."""
        return dict(self.model_extra or {})


class GenerationRequest(Body):
    """What both endpoints share."""

    model: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0.0, le=100.0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: Annotated[list[StopSequence], BeforeValidator(_as_list)] | None = None
    n: int | None = Field(None, ge=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stars: StarsOptions = StarsOptions()

    @property
    def most_tokens(self) -> int | None:
        return self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        return tuple(self.stop or ())


class TextPart(Body):
    type: Literal["text"]
    text: str


class Message(Body):
    role: str
    content: str | Annotated[list[TextPart], MANY]
    name: str | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(GenerationRequest):
    messages: Annotated[list[Message], MANY]
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(GenerationRequest):
    prompt: str | Annotated[list[str], Field(min_length=1, max_length=2048, fail_fast=True)]

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


RequestT = TypeVar("RequestT", bound=GenerationRequest)


def parse(kind: type[RequestT], body: bytes) -> RequestT:
    """A checked request.

    Raises:
        ApiError: 400, naming the field.
    """
    try:
        fields = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise ApiError(400, f"the body is a JSON {type(fields).__name__}, not an object", code="invalid_json")
    known = {name: value for name, value in fields.items() if _is_wanted(kind, name, value)}
    try:
        return kind.model_validate(known)
    except ValidationError as error:
        raise invalid(max(error.errors(), key=lambda problem: len(_place(problem)))) from None


def _place(problem: Any) -> list[str | int]:
    """Where a problem lies, without the names that pydantic gives the members of a union."""
    return [part for part in problem["loc"] if isinstance(part, int) or not UNION_MEMBER.fullmatch(part)]


def invalid(problem: Any, prefix: str = "") -> ApiError:
    """The API's error for a pydantic one."""
    place = _place(problem)
    param = prefix + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
    message = problem["msg"].removeprefix("Value error, ")
    code = "missing_required_parameter" if problem["type"] == "missing" else "invalid_value"
    return ApiError(400, f"{param}: {message}", param, code)


def _is_wanted(kind: type[GenerationRequest], name: str, value: Any) -> bool:
    """Whether a field is ours to read; what asks for nothing is not, and what we cannot do is refused."""
    if name in kind.model_fields:
        return value is not None
    if value is None or name in IGNORED or any(value == neutral for neutral in NEUTRAL.get(name, ())):
        return False
    if name in NEUTRAL:
        raise ApiError(400, f"{name} is not supported", name, "unsupported_parameter")
    near = difflib.get_close_matches(name, kind.model_fields, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ApiError(400, f"{name[:100]} is not supported{hint}", name[:100], "unknown_parameter")
