"""Token sampling with keyed noise: temperature, top-k, top-p per row, then Gumbel-max in two steps.

Gumbel-max is an exact draw from a softmax, and unlike the inverse CDF it is nearly immune to a last-bit difference in
the logits: a token flips only when two perturbed scores tie. The vocabulary is cut into blocks of `BLOCK` ids: first
a block is drawn by the log-sum-exp of its scores, then a token inside it. That is the same softmax, with noise for
V / BLOCK + BLOCK numbers instead of V.

Axes: R rows, V vocabulary, B blocks, N ids of a block, T tokens of a segment.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.draws import block_noise_bits, token_noise_bits, token_subkeys
from pipeline.protocol import ProposeCohort

BLOCK = 64


@dataclass(frozen=True, slots=True)
class Sampler:
    """The sampling parameters and draw keys of one cohort, on the model's device.

    `temperature_R` is 1 for greedy rows. `num_sorted` is how many of the highest scores the cuts need in order: the
    widest top-k, the whole vocabulary for a top-p without top-k, 0 when nothing is cut. The entropy stops are None when
    no row has one.
    """

    temperature_R: torch.Tensor
    greedy_R: torch.Tensor
    top_p_R: torch.Tensor
    top_k_R: torch.Tensor
    subkey_0_RT: torch.Tensor
    subkey_1_RT: torch.Tensor
    num_sorted: int
    cuts_mass: bool
    has_greedy: bool
    stop_entropy_R: torch.Tensor | None = None
    stop_after_R: torch.Tensor | None = None

    @classmethod
    def of(cls, cohort: ProposeCohort, vocabulary_size: int, device: torch.device) -> "Sampler":
        """Prepare a cohort: one pass of Philox for all token indices of the segment."""
        top_k_R = np.where(cohort.top_k_R > 0, np.minimum(cohort.top_k_R, vocabulary_size), vocabulary_size)
        greedy_R = cohort.temperature_R == 0
        subkeys = token_subkeys(cohort.row_keys_R, cohort.draw_keys_R3, int(cohort.num_tokens_R.max()))
        cuts_mass = bool((cohort.top_p_R < 1).any())
        is_cut = cuts_mass or bool((top_k_R < vocabulary_size).any())
        return cls(
            temperature_R=_tensor(np.where(greedy_R, 1.0, cohort.temperature_R).astype(np.float32), device),
            greedy_R=_tensor(greedy_R, device),
            top_p_R=_tensor(cohort.top_p_R.astype(np.float32), device),
            top_k_R=_tensor(top_k_R.astype(np.int64), device),
            subkey_0_RT=_tensor(subkeys[0], device),
            subkey_1_RT=_tensor(subkeys[1], device),
            num_sorted=int(top_k_R.max()) if is_cut else 0,
            cuts_mass=cuts_mass,
            has_greedy=bool(greedy_R.any()),
            stop_entropy_R=_optional(cohort.stop_entropy_R, device),
            stop_after_R=_optional(cohort.stop_after_R, device),
        )

    def take(self, order: torch.Tensor) -> "Sampler":
        """The same sampler for the rows `order` [W] (indices into R)."""
        return Sampler(
            self.temperature_R[order],
            self.greedy_R[order],
            self.top_p_R[order],
            self.top_k_R[order],
            self.subkey_0_RT[order],
            self.subkey_1_RT[order],
            self.num_sorted,
            self.cuts_mass,
            self.has_greedy,
            None if self.stop_entropy_R is None else self.stop_entropy_R[order],
            None if self.stop_after_R is None else self.stop_after_R[order],
        )

    def widened(self, width: int) -> "Sampler":
        """Its copy for `width` rows, of which those beyond its own repeat the last one."""
        rows = torch.arange(width, device=self.top_k_R.device).clamp(max=len(self.top_k_R) - 1)
        return self.take(rows)

    def join(self, other: "Sampler") -> "Sampler":
        """The rows of both, these first."""
        both = (self, other)
        num_tokens = max(sampler.subkey_0_RT.shape[1] for sampler in both)
        columns = {
            field.name: torch.cat([_padded(getattr(sampler, field.name), num_tokens) for sampler in both])
            for field in fields(Sampler)
            if isinstance(getattr(self, field.name), torch.Tensor) and not field.name.startswith("stop")
        }
        if any(sampler.stop_entropy_R is not None for sampler in both):
            entropies, lengths = zip(*(sampler._stops() for sampler in both), strict=True)
            columns |= {"stop_entropy_R": torch.cat(entropies), "stop_after_R": torch.cat(lengths)}
        is_cut = any(sampler.num_sorted for sampler in both)
        return Sampler(
            **columns,
            num_sorted=int(columns["top_k_R"].max()) if is_cut else 0,
            cuts_mass=self.cuts_mass or other.cuts_mass,
            has_greedy=self.has_greedy or other.has_greedy,
        )

    def _stops(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows' entropy stops; without any, such as never stop."""
        if self.stop_entropy_R is not None and self.stop_after_R is not None:
            return self.stop_entropy_R, self.stop_after_R
        never = torch.full_like(self.temperature_R, float("inf"))
        return never, torch.zeros_like(never, dtype=torch.int32)

    def sample(self, logits_RV: torch.Tensor, token_index_R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One token id per row, for its segment's token `token_index_R`: int64 [R], or [1] where all are at the same.

        Returns:
            Ids int64 [R], and bool [R]: whether a row's highest logit is a finite number, without which its id means
            nothing.
        """
        scores_RV = self._cut(logits_RV.float() / self.temperature_R[:, None])
        index_R1 = token_index_R.expand(len(scores_RV))[:, None]
        key_0, key_1 = (keys.gather(1, index_R1) for keys in (self.subkey_0_RT, self.subkey_1_RT))
        highest_R = scores_RV.amax(dim=-1)
        drawn_R = _draw(scores_RV, highest_R, key_0, key_1)
        if self.has_greedy:
            drawn_R = torch.where(self.greedy_R, scores_RV.argmax(dim=-1), drawn_R)
        return drawn_R, highest_R.isfinite()

    def stops(self, logits_RV: torch.Tensor, token_index_R: torch.Tensor) -> torch.Tensor | None:
        """Whether each row's segment ends before this token, bool [R]; None when no row has an entropy stop."""
        if self.stop_entropy_R is None or self.stop_after_R is None:
            return None
        entropy_R = torch.special.entr(logits_RV.float().softmax(dim=-1)).sum(dim=-1)
        return (entropy_R >= self.stop_entropy_R) & (token_index_R >= self.stop_after_R)

    def _cut(self, scores_RV: torch.Tensor) -> torch.Tensor:
        """Apply each row's top-k, then its top-p, in the order of Hugging Face's generate."""
        if not self.num_sorted:
            return scores_RV
        scores_RN, ids_RN = scores_RV.topk(self.num_sorted, dim=-1)
        ranks = torch.arange(self.num_sorted, device=scores_RV.device)[None, :]
        scores_RN = scores_RN.masked_fill(ranks >= self.top_k_R[:, None], float("-inf"))
        if self.cuts_mass:
            mass_RN = scores_RN.softmax(dim=-1)
            before_RN = mass_RN.cumsum(dim=-1) - mass_RN
            scores_RN = scores_RN.masked_fill((before_RN >= self.top_p_R[:, None]) & (ranks > 0), float("-inf"))
        return torch.full_like(scores_RV, float("-inf")).scatter_(1, ids_RN, scores_RN)


def _padded(column: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """A table by token made wider; what is no table stays as it is."""
    return torch.nn.functional.pad(column, (0, num_tokens - column.shape[1])) if column.dim() == 2 else column


def _draw(scores_RV: torch.Tensor, highest_R: torch.Tensor, key_0: torch.Tensor, key_1: torch.Tensor) -> torch.Tensor:
    """One id per row from softmax(scores), int64 [R]; the keys are [R, 1]."""
    num_blocks = -(-scores_RV.shape[1] // BLOCK)
    padding = num_blocks * BLOCK - scores_RV.shape[1]
    if padding:
        scores_RV = torch.nn.functional.pad(scores_RV, (0, padding), value=float("-inf"))
    scores_RBN = scores_RV.view(-1, num_blocks, BLOCK)
    # Scores so far below the highest that exp gives 0 could not win: the noise spans less than 26.
    mass_RB = (scores_RBN - highest_R[:, None, None]).exp_().sum(dim=-1).log_()
    blocks_1B = torch.arange(num_blocks, device=scores_RV.device)[None, :]
    block_R1 = (mass_RB + gumbel(_bits(block_noise_bits, blocks_1B, key_0, key_1))).argmax(dim=-1, keepdim=True)
    scores_RN = scores_RBN.gather(1, block_R1[:, :, None].expand(-1, 1, BLOCK))[:, 0]
    ids_RN = block_R1 * BLOCK + torch.arange(BLOCK, device=scores_RV.device)[None, :]
    best_R1 = (scores_RN + gumbel(_bits(token_noise_bits, ids_RN, key_0, key_1))).argmax(dim=-1, keepdim=True)
    return ids_RN.gather(1, best_R1)[:, 0].clamp_(max=num_blocks * BLOCK - padding - 1)  # NaN could reach the padding


def _bits(noise_bits: Callable[..., Any], *words: torch.Tensor) -> torch.Tensor:
    """Noise of words on their device; on a CPU by NumPy, which takes half of torch's time for many small steps."""
    if words[0].device.type == "cpu":
        return torch.from_numpy(noise_bits(*(word.numpy() for word in words)))
    bits: torch.Tensor = noise_bits(*words)
    return bits


def _tensor(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array).to(device)


def _optional(array_R: npt.NDArray[Any] | None, device: torch.device) -> torch.Tensor | None:
    return None if array_R is None else _tensor(array_R, device)


def gumbel(bits: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise from 32-bit words.

    -log(-log1p(-u)) keeps full precision where the noise is large; the textbook -log(-log(u)) in fp32 gives +inf
    about V * 3e-8 times a step. u stays below 1, so that the noise is finite.
    """
    u = ((bits.double() + 0.5) * 2.0**-32).float().clamp(max=1.0 - 2.0**-24)
    return -torch.log(-torch.log1p(-u))
