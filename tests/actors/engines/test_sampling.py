"""Temperature, top-k and top-p per row: the drawn tokens against the exact distribution, and against Hugging Face's."""

import numpy as np
import pytest
import scipy.stats
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from actors.engines.sampling import Sampler
from pipeline.draws import row_key
from pipeline.protocol import ProposeCohort

V, NUM_DRAWS = 150, 20_000  # three blocks, the last of them not full


def sampler_of(temperature, top_k, top_p, rows=NUM_DRAWS):
    """One row per draw; a scalar serves all rows."""
    cohort = ProposeCohort(
        slots_R=np.arange(rows, dtype=np.int32),
        prefix_tokens=np.zeros(rows, dtype=np.int32),
        prefix_lengths_R=np.ones(rows, dtype=np.int32),
        num_tokens_R=np.full(rows, 2, dtype=np.int32),
        row_keys_R=np.array([row_key(5, str(i)) for i in range(rows)]),
        draw_keys_R3=np.zeros((rows, 3), dtype=np.int64),
        temperature_R=np.broadcast_to(np.float32(temperature), rows).copy(),
        top_p_R=np.broadcast_to(np.float32(top_p), rows).copy(),
        top_k_R=np.broadcast_to(np.int32(top_k), rows).copy(),
    )
    return Sampler.of(cohort, V, torch.device("cpu"))


def logits(seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(1, V)).astype(np.float32)) * 2


def hugging_face_distribution(scores, temperature, top_k, top_p):
    for warper in (
        TemperatureLogitsWarper(temperature),
        TopKLogitsWarper(top_k) if top_k else None,
        TopPLogitsWarper(top_p) if top_p < 1 else None,
    ):
        scores = scores if warper is None else warper(None, scores)
    return scores.double().softmax(-1)[0].numpy()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 12, 1.0), (1.0, 0, 0.8), (0.8, 25, 0.9), (1.5, 5, 0.99)],
)
def test_tokens_have_the_distribution_of_generate(temperature, top_k, top_p):
    expected = hugging_face_distribution(logits(), temperature, top_k, top_p)
    drawn = sampler_of(temperature, top_k, top_p).sample(logits().expand(NUM_DRAWS, V), torch.tensor([1]))[0].numpy()
    counts = np.bincount(drawn, minlength=V)
    assert counts[expected == 0].sum() == 0
    big = expected * NUM_DRAWS > 8
    observed = [*counts[big], counts[~big].sum()]
    wanted = [*expected[big] * NUM_DRAWS, expected[~big].sum() * NUM_DRAWS]
    kept = [i for i, value in enumerate(wanted) if value > 0]
    assert scipy.stats.chisquare([observed[i] for i in kept], [wanted[i] for i in kept]).pvalue > 1e-3


def test_temperature_zero_is_greedy_beside_sampled_rows():
    drawn = sampler_of(np.array([0.0, 1.0] * 500), 0, 1.0, rows=1000).sample(
        logits().expand(1000, V), torch.tensor([0])
    )[0]
    assert (drawn[::2] == logits().argmax()).all()
    assert len(set(drawn[1::2].tolist())) > 5


def test_every_row_has_its_own_cut():
    top_k = np.array([1, 3, 0] * 300)
    drawn = sampler_of(1.0, top_k, 1.0, rows=900).sample(logits().expand(900, V), torch.tensor([0]))[0].numpy()
    best = logits()[0].argsort(descending=True).numpy()
    assert set(drawn[::3]) == {best[0]}
    assert set(drawn[1::3]) == set(best[:3])
    assert len(set(drawn[2::3])) > 5


def test_a_token_is_the_same_alone_and_among_others():
    together = sampler_of(0.9, 10, 0.95, rows=64).sample(logits().expand(64, V), torch.tensor([1]))[0]
    picked = torch.tensor([5, 17, 40])
    apart = sampler_of(0.9, 10, 0.95, rows=64).take(picked).sample(logits().expand(3, V), torch.tensor([1]))[0]
    assert (together[picked] == apart).all()


def test_rows_whose_logits_are_not_finite_are_told_apart():
    bad = logits().repeat(5, 1)
    bad[1, 3], bad[2, 7], bad[3] = float("nan"), float("inf"), float("-inf")
    drawn, is_finite = sampler_of(1.0, np.array([0, 0, 9, 0, 9]), 1.0, rows=5).sample(bad, torch.tensor([0]))
    assert is_finite.tolist() == [True, False, False, False, True]
    assert ((drawn >= 0) & (drawn < V)).all()
    assert drawn[0] == sampler_of(1.0, 0, 1.0, rows=1).sample(logits(), torch.tensor([0]))[0]
