"""Keyed randomness: known answers, uniformity, and independence of when or where a draw is made."""

import numpy as np
import scipy.stats
import torch

from actors.engines.sampling import gumbel
from pipeline.draws import acceptance_uniform, philox2x32, philox4x32, row_key, token_noise_bits, token_subkeys
from pipeline.records import DrawKey

ONES = 0xFFFFFFFF


def test_philox_known_answers():
    """Vectors of the reference implementation, Random123."""
    assert philox4x32([0, 0, 0, 0], (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox4x32([ONES] * 4, (ONES, ONES)) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert philox2x32(0, 0, 0) == 0xFF1DAE59
    assert philox2x32(ONES, ONES, ONES) == 0x2C3F628B


def test_integers_numpy_and_torch_agree():
    words = [0, 1, 0x7FFFFFFF, 0x80000000, ONES, 123456789]
    expected = [philox2x32(word, 5, ONES) for word in words]
    assert philox2x32(np.array(words), np.array(5), np.array(ONES)).tolist() == expected
    assert philox2x32(torch.tensor(words), torch.tensor(5), torch.tensor(ONES)).tolist() == expected


def test_draws_depend_on_every_part_of_the_key_and_nothing_else():
    key = row_key(7, "row 3")
    base = acceptance_uniform(key, DrawKey(2, 5, lane=1))
    assert base == acceptance_uniform(row_key(7, "row 3"), DrawKey(2, 5, lane=1))
    others = [
        acceptance_uniform(row_key(8, "row 3"), DrawKey(2, 5, 1)),
        acceptance_uniform(row_key(7, "row 4"), DrawKey(2, 5, 1)),
        acceptance_uniform(key, DrawKey(3, 5, 1)),
        acceptance_uniform(key, DrawKey(2, 6, 1)),
        acceptance_uniform(key, DrawKey(2, 5, 0)),
    ]
    assert len({base, *others}) == 6


def test_a_row_of_a_cohort_draws_what_it_draws_alone():
    keys = np.array([row_key(0, str(i)) for i in range(5)])
    draws = np.array([[0, i, 2 * i] for i in range(5)])
    together = token_subkeys(keys, draws, 9)
    alone = token_subkeys(keys[3:4], draws[3:4], 4)
    for words, word in zip(together, alone, strict=True):
        assert (words[3, :4] == word[0]).all()


def test_uniforms_are_uniform():
    uniforms = [acceptance_uniform(row_key(1, str(i)), DrawKey(i % 7, i % 3)) for i in range(20_000)]
    assert scipy.stats.kstest(uniforms, "uniform").pvalue > 1e-3


def test_token_noise_is_gumbel_and_uncorrelated_between_neighbours():
    subkeys = token_subkeys(np.array([row_key(3, "a")]), np.array([[0, 0, 0]]), 50)
    ids = torch.arange(2000)[None, :]
    bits = token_noise_bits(ids, *(torch.from_numpy(words[0][:, None]) for words in subkeys))
    noise = gumbel(bits).double().numpy()
    assert scipy.stats.kstest(noise.ravel(), "gumbel_r").pvalue > 1e-3
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.015
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.015


def test_gumbel_noise_is_finite_at_both_ends():
    noise = gumbel(torch.tensor([0, 1, ONES - 1, ONES]))
    assert torch.isfinite(noise).all()
    assert noise[0] > 22 and noise[-1] < -2.7
