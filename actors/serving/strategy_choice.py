"""What a request may set of how it is answered, and the strategy that this makes.

Invariant: nobody but who runs the server decides whether answers are aligned: a field outside `serve.allow` is refused
by its name, unless it says what holds anyway.
"""

import difflib
from typing import Any

from pydantic import TypeAdapter, ValidationError

from actors.serving.api_errors import ApiError
from actors.serving.request_schema import GenerationRequest, StarsOptions, invalid
from actors.serving.server_config import LimitsConfig, ServeConfig
from pipeline.strategies import STRATEGIES, StrategyConfig

STRATEGY: TypeAdapter[StrategyConfig] = TypeAdapter(StrategyConfig)
SAMPLING = ("temperature", "top_p", "seed", "stop", "n")
OPTIONS = ("id", "show_rejected", "top_k", "strategy")


def plan_strategy(options: StarsOptions, config: ServeConfig) -> StrategyConfig:
    """The server's strategy with the request's knobs, or another one, begun anew as on the command line."""
    own = config.strategy
    name = options.strategy or own.name
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name[:50], STRATEGIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        what = f"stars.strategy: no strategy {name[:50]!r}{hint}; there are {', '.join(STRATEGIES)}"
        raise ApiError(400, what, "stars.strategy", "invalid_value")
    fields = own.model_dump() if name == own.name else {"name": name}
    try:
        strategy = STRATEGY.validate_python(fields | options.knobs)
    except ValidationError as error:
        problem = error.errors()[0]
        raise invalid({**problem, "loc": problem["loc"][1:]}, "stars.") from None
    _check_cost(strategy, config.serve.limits, config.engine.slots or 1)
    return strategy


def check_allowed(request: GenerationRequest, config: ServeConfig) -> None:
    """Raises ApiError 400, naming the first field that requests may not set here."""
    stars, own = request.stars, config.strategy.model_dump()
    if "name" in stars.knobs:
        raise ApiError(400, "stars.name: a request says stars.strategy", "stars.name", "unknown_parameter")
    given: dict[str, Any] = {name: getattr(request, name) for name in SAMPLING}
    given |= {"max_tokens": request.most_tokens}
    given |= {f"stars.{name}": getattr(stars, name) for name in OPTIONS if name in stars.model_fields_set}
    given |= {f"stars.{name}": value for name, value in stars.knobs.items() if name not in own or value != own[name]}
    if stars.strategy == config.strategy.name:
        del given["stars.strategy"]
    for param, value in given.items():
        if value is None or config.serve.allows(param.removeprefix("stars.")):
            continue
        may = ", ".join(config.serve.allow) or "nothing"
        what = f"{param[:100]}: this server does not let requests set it; they may set: {may}"
        raise ApiError(400, what, param[:100], "not_allowed")


def _check_cost(strategy: StrategyConfig, limits: LimitsConfig, slots: int) -> None:
    for what, cost, limit in (
        ("draws of each token", strategy.max_draws, limits.max_draws),
        ("lanes", strategy.num_lanes, min(limits.max_lanes, slots)),
    ):
        if cost > limit:
            raise ApiError(
                400, f"stars: {strategy.name} needs up to {cost} {what}; here are {limit}", "stars", "limit_exceeded"
            )
