"""Who runs the server decides what requests may set; by default nothing that switches the alignment off."""

import pytest

from actors.serving.answer_plan import plan_chat
from actors.serving.api_errors import ApiError
from actors.serving.server_config import KNOBS, SAFE, ServerConfig
from pipeline.strategies import STRATEGIES
from tests.actors.serving.test_answer_plan import chat
from tests.http_server import serve_config


def planned(allow, **fields):
    return plan_chat(chat(**fields), serve_config(serve={"allow": allow}))


def refusal(allow, **fields):
    with pytest.raises(ApiError) as caught:
        planned(allow, **fields)
    assert caught.value.status == 400
    return caught.value.param, caught.value.code


@pytest.mark.parametrize(
    ("stars", "param"),
    [
        ({"strategy": "vanilla"}, "stars.strategy"),
        ({"strategy": "best_of_n", "n": 1}, "stars.strategy"),
        ({"reward_threshold": -1e308}, "stars.reward_threshold"),
        ({"beta": 1e308}, "stars.beta"),
        ({"alpha": 0.0}, "stars.alpha"),
        ({"max_attempts": 1}, "stars.max_attempts"),
        ({"nonsense": 1}, "stars.nonsense"),
    ],
)
def test_by_default_no_request_switches_the_alignment_off(stars, param):
    assert refusal(SAFE, stars=stars) == (param, "not_allowed")


def test_the_configs_own_word_for_a_strategy_is_not_swallowed():
    for allow in (SAFE, "all"):
        assert refusal(allow, stars={"name": "vanilla"}) == ("stars.name", "unknown_parameter")


def test_what_is_safe_and_what_holds_anyway_passes():
    own = serve_config().strategy
    plan = planned(
        SAFE,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        stop="x",
        max_tokens=9,
        n=2,
        stars={"id": "a", "top_k": 5, "show_rejected": True, "segment_size": 4, "strategy": "stars", "beta": own.beta},
    )
    assert plan.strategy == own.model_copy(update={"segment_size": 4})
    assert planned([]).strategy == own


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 0}, "temperature"),
        ({"max_completion_tokens": 5}, "max_tokens"),
        ({"n": 1}, "n"),
        ({"stop": ["x"]}, "stop"),
        ({"stars": {"id": "a"}}, "stars.id"),
        ({"stars": {"top_k": 1}}, "stars.top_k"),
    ],
)
def test_any_field_can_be_taken_away(fields, param):
    assert refusal([], **fields) == (param, "not_allowed")


def test_a_strategy_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(ApiError) as caught:
        planned("all", stars={"strategy": "blockwise"})
    assert all(name in caught.value.message for name in STRATEGIES)
    assert "did you mean 'blockwise_best_of_k'" in caught.value.message


def test_the_config_knows_what_may_be_allowed():
    assert ServerConfig(allow="all").allows("strategy") and ServerConfig(allow=["beta"]).allows("beta")
    assert not ServerConfig().allows("reward_threshold") and {"beta", "n", "k"} <= KNOBS
    with pytest.raises(ValueError, match="'strategy' is"):
        ServerConfig(allow=["stratgy"])
