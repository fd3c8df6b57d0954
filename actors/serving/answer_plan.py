"""From a checked request to the rows the coordinator aligns: one per choice, within the server's limits.

A request with the id and seed of a batch row is that row: same prompt, same draws, same response. Without an id a seed
alone decides the draws; without a seed too, every request draws anew.
"""

import uuid
from dataclasses import dataclass
from typing import Any

from actors.serving.api_errors import ApiError
from actors.serving.request_schema import ChatRequest, CompletionRequest, GenerationRequest
from actors.serving.server_config import LimitsConfig, ServeConfig
from actors.serving.strategy_choice import check_allowed, plan_strategy
from pipeline.dataset.rows import check_row
from pipeline.records import PromptRow, TokenArray
from pipeline.strategies import StrategyConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request amounts to: its choices, and how all of them are answered.

    Args:
        request_id: the reply's id.
        rows: one per choice.
        strategy: of all of them.
        stop: texts that end a response.
        choices_per_prompt: rows of one prompt stand together.
        param: the request's field that holds the prompts.
        prompts: the tokens of each prompt, once they are known (`actors.serving.prompt_queue`).
    """

    request_id: str
    rows: tuple[PromptRow, ...]
    strategy: StrategyConfig
    stop: tuple[str, ...]
    choices_per_prompt: int = 1
    param: str = "messages"
    prompts: tuple[TokenArray, ...] = ()

    def prompt_of(self, choice: int) -> int:
        """Which of the request's prompts a choice answers."""
        return choice // self.choices_per_prompt


def plan_chat(request: ChatRequest, config: ServeConfig) -> Plan:
    """The rows of a chat: `n` answers to its messages."""
    messages = [{"role": _role(message.role), "content": message.text} for message in request.messages]
    return _plan(f"chatcmpl-{uuid.uuid4().hex}", request, config, [(None, messages)], "messages")


def plan_completion(request: CompletionRequest, config: ServeConfig) -> Plan:
    """The rows of a completion: `n` answers to each prompt, which is read as a batch row's is (`prompt_as`)."""
    prompts = [(prompt, None) for prompt in request.prompts]
    return _plan(f"cmpl-{uuid.uuid4().hex}", request, config, prompts, "prompt")


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _plan(request_id: str, request: GenerationRequest, config: ServeConfig, prompts: list[Any], param: str) -> Plan:
    if request.model not in (None, config.served_name):
        raise ApiError(
            404,
            f"the model {request.model!r} does not exist; here is {config.served_name!r}",
            "model",
            "model_not_found",
        )
    limits, num_choices = config.serve.limits, (request.n or 1) * len(prompts)
    if num_choices > limits.max_choices:
        raise ApiError(400, f"{num_choices} choices; this server allows {limits.max_choices}", "n", "limit_exceeded")
    check_allowed(request, config)
    sampling = _sampling(request, config)
    strategy = plan_strategy(request.stars, config)
    ids = [_row_id(request, request_id, number) for number in range(num_choices)]
    rows = tuple(
        check_row(i, row_id, prompts[i // (request.n or 1)][0], prompts[i // (request.n or 1)][1], sampling)
        for i, row_id in enumerate(ids)
    )
    for row in rows:
        if row.error_type is not None:
            raise ApiError(400, row.error or "", param, row.error_type)
    stop = sampling.get("stop", config.generation.stop)
    return Plan(request_id, rows, strategy, stop, request.n or 1, param)


def _row_id(request: GenerationRequest, request_id: str, number: int) -> str:
    given = request.stars.id
    base = str(given) if given is not None else "" if request.seed is not None else request_id
    return base if number == 0 else f"{base}#{number}"


def _sampling(request: GenerationRequest, config: ServeConfig) -> dict[str, Any]:
    """The row's own sampling parameters."""
    limits, most = config.serve.limits, request.most_tokens
    limit = min(limits.max_new_tokens or 2**31, (config.engine.max_model_len or 2**31) - 1)
    if most is not None and most > limit:
        raise ApiError(400, f"max_tokens is {most}; this server allows {limit}", "max_tokens", "limit_exceeded")
    _check_stops(request.stops, limits)
    given = {
        "max_new_tokens": most,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.stars.top_k,
        "seed": request.seed,
        "stop": request.stops or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _check_stops(stops: tuple[str, ...], limits: LimitsConfig) -> None:
    if len(stops) > limits.max_stops:
        what = f"stop: {len(stops)} texts; this server allows {limits.max_stops}"
        raise ApiError(400, what, "stop", "limit_exceeded")
    longest = limits.max_stop_characters
    for number, stop in enumerate(stops):
        if len(stop) > longest:
            what = f"stop[{number}]: {len(stop)} characters; this server allows {longest}"
            raise ApiError(400, what, f"stop[{number}]", "limit_exceeded")
