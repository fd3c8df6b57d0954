"""Entropy-ended segments: both decoders and the fake policy against the definition, by plain forward passes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from actors.engines.fakes import MAX_ENTROPY, FakePolicy
from actors.engines.policy_engine import PolicyEngine
from pipeline.config.model import ModelConfig
from tests.actors.engines.test_slot_engine import cohort_of
from tests.tiny_models import VOCABULARY, causal_model, engine_config

NUM_ROWS, LENGTHS, MIN_TOKENS = 12, [7, 16, 9, 12], 3
END = 1


def entropies(model, tokens):
    """Entropy of the next token after every prefix of `tokens`, in nats."""
    with torch.inference_mode():
        log_p = model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).numpy()


def cohort(threshold):
    """Rows of several lengths; every third one has no stop."""
    rng = np.random.default_rng(4)
    prefixes = [rng.integers(2, VOCABULARY, size=rng.integers(3, 20)) for _ in range(NUM_ROWS)]
    plain = cohort_of(range(NUM_ROWS), prefixes, [LENGTHS[i % 4] for i in range(NUM_ROWS)], 0)
    thresholds_R = np.where(np.arange(NUM_ROWS) % 3 == 2, np.inf, threshold).astype(np.float32)
    stops = replace(plain, stop_entropy_R=thresholds_R, stop_after_R=np.full(NUM_ROWS, MIN_TOKENS, dtype=np.int32))
    return prefixes, plain, stops, thresholds_R


@pytest.mark.parametrize("shapes_of", ["cpu", "cuda"])
def test_a_segment_ends_before_the_first_unsure_token(shapes_of):
    model = causal_model("llama", scale=6.0)
    engines = [PolicyEngine(model, engine_config(slots=16), (END,), shapes_of) for _ in range(2)]
    prefixes, plain, stops, thresholds_R = cohort(threshold=2.2)
    whole, cut = (engine.propose(request) for engine, request in zip(engines, (plain, stops), strict=True))
    num_stopped = 0
    for row, prefix in enumerate(prefixes):
        tokens = whole.tokens_RT[row, : whole.lengths_R[row]]
        before = entropies(model, [*prefix.tolist(), *tokens.tolist()])[len(prefix) - 1 : -1]
        unsure = [i for i in range(MIN_TOKENS, len(tokens)) if before[i] >= thresholds_R[row]]
        length = unsure[0] if unsure else len(tokens)
        assert cut.tokens_RT[row, : cut.lengths_R[row]].tolist() == tokens[:length].tolist()
        assert cut.finished_R[row] == (whole.finished_R[row] and not unsure)
        assert cut.stats.pushed_tokens_R[row] == len(prefix) - 1 + length + bool(unsure)
        num_stopped += bool(unsure)
    assert 3 <= num_stopped <= 7  # of the eight rows with a stop: some end by it, some do not


@pytest.mark.parametrize("shapes_of", ["cpu", "cuda"])
def test_a_stopped_segment_goes_on_as_if_it_had_been_given(shapes_of):
    """The cache of a stopped row is right: its continuation equals that of an engine which never saw the stop."""
    model = causal_model("llama", scale=6.0)
    used, fresh = (PolicyEngine(model, engine_config(slots=16), (END,), shapes_of) for _ in range(2))
    prefixes, _, stops, _ = cohort(threshold=2.2)
    cut = used.propose(stops)
    longer = [
        np.concatenate([prefix, tokens[:length]])
        for prefix, tokens, length in zip(prefixes, cut.tokens_RT, cut.lengths_R, strict=True)
    ]
    following = cohort_of(range(NUM_ROWS), longer, [6] * NUM_ROWS, 1)
    expected, got = fresh.propose(following), used.propose(following)
    assert got.tokens_RT.tolist() == expected.tokens_RT.tolist()
    assert got.stats.pushed_tokens_R.sum() == got.lengths_R.sum()  # the last token again, and what is new


def test_the_fake_policy_stops_too():
    policy = FakePolicy(ModelConfig(backend="fake"), engine_config(slots=16))
    _, plain, stops, thresholds_R = cohort(threshold=0.75 * MAX_ENTROPY)
    whole, cut = policy.propose(plain), policy.propose(stops)
    has_stop_R = np.isfinite(thresholds_R)
    assert (cut.lengths_R[~has_stop_R] == whole.lengths_R[~has_stop_R]).all()
    assert (cut.lengths_R >= np.minimum(MIN_TOKENS, whole.lengths_R)).all()
    assert 0 < (cut.lengths_R < whole.lengths_R).sum() < has_stop_R.sum()
    for row in range(NUM_ROWS):
        length = cut.lengths_R[row]
        assert cut.tokens_RT[row, :length].tolist() == whole.tokens_RT[row, :length].tolist()
