"""Token sampling with keyed noise: temperature, top-k, top-p per row, then Gumbel-max.

Gumbel-max over the kept tokens is an exact draw from their softmax, and unlike the inverse CDF it is nearly immune
to a last-bit difference in the logits: a token flips only when two perturbed scores tie.

Axes: R rows, V vocabulary, N kept candidates, T tokens of a segment.
"""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.draws import token_noise_bits, token_subkeys
from pipeline.records import ProposeCohort


@dataclass(frozen=True, slots=True)
class Sampler:
    """The sampling parameters and draw keys of one cohort, on the model's device.

    `temperature_R` is 1 for greedy rows, whose noise is switched off by `noise_scale_R`. `num_candidates` is the
    widest top-k of the cohort, or the whole vocabulary; `is_sorted` when a cut needs them from high to low.
    """

    temperature_R: torch.Tensor
    noise_scale_R: torch.Tensor
    top_p_R: torch.Tensor
    top_k_R: torch.Tensor
    subkey_0_RT: torch.Tensor
    subkey_1_RT: torch.Tensor
    num_candidates: int
    cuts_mass: bool
    is_sorted: bool

    @classmethod
    def of(cls, cohort: ProposeCohort, vocabulary_size: int, device: torch.device) -> "Sampler":
        """Prepare a cohort: one pass of Philox for all token indices of the segment."""
        top_k_R = np.where(cohort.top_k_R > 0, np.minimum(cohort.top_k_R, vocabulary_size), vocabulary_size)
        greedy_R = cohort.temperature_R == 0
        subkeys = token_subkeys(cohort.row_keys_R, cohort.draw_keys_R3, int(cohort.num_tokens_R.max()))
        tensors = (
            np.where(greedy_R, 1.0, cohort.temperature_R).astype(np.float32),
            np.where(greedy_R, 0.0, 1.0).astype(np.float32),
            cohort.top_p_R.astype(np.float32),
            top_k_R.astype(np.int64),
            *subkeys,
        )
        cuts_mass = bool((cohort.top_p_R < 1).any())
        return cls(
            *(torch.from_numpy(array).to(device) for array in tensors),
            num_candidates=int(top_k_R.max()),
            cuts_mass=cuts_mass,
            is_sorted=cuts_mass or bool((top_k_R < vocabulary_size).any()),
        )

    def take(self, order: torch.Tensor) -> "Sampler":
        """The same sampler for the rows `order` [W] (indices into R)."""
        return Sampler(
            self.temperature_R[order],
            self.noise_scale_R[order],
            self.top_p_R[order],
            self.top_k_R[order],
            self.subkey_0_RT[order],
            self.subkey_1_RT[order],
            self.num_candidates,
            self.cuts_mass,
            self.is_sorted,
        )

    def sample(self, logits_RV: torch.Tensor, token_index: int) -> torch.Tensor:
        """One token id per row, int64 [R], for the segment's token `token_index`."""
        scores_RN, ids_RN = self._candidates(logits_RV.float())
        scores_RN = self._cut(scores_RN / self.temperature_R[:, None])
        key_0, key_1 = self.subkey_0_RT[:, token_index, None], self.subkey_1_RT[:, token_index, None]
        noise_RN = gumbel(token_noise_bits(ids_RN, key_0, key_1)) * self.noise_scale_R[:, None]
        best_R = (scores_RN + noise_RN).argmax(dim=-1, keepdim=True)
        return ids_RN.expand_as(scores_RN).gather(1, best_R)[:, 0]

    def _candidates(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and ids, sorted from high to low where a cut needs the order."""
        if self.is_sorted:
            return logits_RV.topk(self.num_candidates, dim=-1)
        return logits_RV, torch.arange(logits_RV.shape[1], device=logits_RV.device)[None, :]

    def _cut(self, scores_RN: torch.Tensor) -> torch.Tensor:
        """Apply each row's top-k, then its top-p, in the order of Hugging Face's generate."""
        ranks = torch.arange(scores_RN.shape[1], device=scores_RN.device)[None, :]
        if self.is_sorted:
            scores_RN = scores_RN.masked_fill(ranks >= self.top_k_R[:, None], float("-inf"))
        if self.cuts_mass:
            mass_RN = scores_RN.softmax(dim=-1)
            before_RN = mass_RN.cumsum(dim=-1) - mass_RN
            scores_RN = scores_RN.masked_fill((before_RN >= self.top_p_R[:, None]) & (ranks > 0), float("-inf"))
        return scores_RN


def gumbel(bits: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise from 32-bit words.

    -log(-log1p(-u)) keeps full precision where the noise is large; the textbook -log(-log(u)) in fp32 gives +inf
    about V * 3e-8 times a step. u stays below 1, so that the noise is finite.
    """
    u = ((bits.double() + 0.5) * 2.0**-32).float().clamp(max=1.0 - 2.0**-24)
    return -torch.log(-torch.log1p(-u))
