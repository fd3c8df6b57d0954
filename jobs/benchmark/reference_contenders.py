"""The references: both models on transformers in one process, nothing cached from one segment to the next.

`recompute` is what published code of this family does: every token is a forward over the whole sequence, and so is
every reward. `generate_per_segment` is a stronger reference: transformers' own `generate`, with its cache inside a
segment. Neither does needless work: logits are computed for the last token only, and padding is not attended to.

Axes: R rows, L tokens of the longest prefix, T tokens of the segment, V vocabulary, H hidden size.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from jobs.benchmark.config import BenchmarkConfig
from jobs.benchmark.measurement import Measurement, Stopwatch, lockstep_measurement
from jobs.benchmark.model_folders import NO_TOKEN, ModelFolders
from jobs.benchmark.workload import Lockstep, Workload
from pipeline.protocol import CallStats
from pipeline.records import TokenArray
from pipeline.runs.usage import RoleUsage

ProposeSegments = Callable[[list[TokenArray], int], tuple[torch.Tensor, int]]


class ReferenceContender:
    """One policy and one reward model, run in the ways that the pipeline is compared with."""

    def __init__(self, config: BenchmarkConfig, folders: ModelFolders) -> None:
        torch.set_num_threads(config.num_threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.policy = load_plain(AutoModelForCausalLM, folders.policy, config)
        self.reward = load_plain(AutoModelForSequenceClassification, folders.reward, config)

    def recompute(self, workload: Workload) -> Measurement:
        """One prompt at a time, no cache at all."""
        return self._run(workload, 1, self._recompute)

    def recompute_batched(self, workload: Workload) -> Measurement:
        """All prompts in lockstep, right-padded, no cache at all."""
        return self._run(workload, len(workload.prompts), self._recompute)

    def generate_per_segment(self, workload: Workload) -> Measurement:
        """One prompt at a time, a cache inside each segment."""
        return self._run(workload, 1, self._generate)

    def generate_per_segment_batched(self, workload: Workload) -> Measurement:
        """All prompts in lockstep, left-padded, a cache inside each segment."""
        return self._run(workload, len(workload.prompts), self._generate)

    @torch.inference_mode()
    def _run(self, workload: Workload, width: int, propose: ProposeSegments) -> Measurement:
        lockstep, policy, reward = Lockstep(workload, width), RoleUsage(), RoleUsage()
        watch = Stopwatch()
        while lockstep.live and watch.wall_s < self.config.time_limit_s:
            prefixes = [live.prefix for live in lockstep.live]
            call_started_s = time.time()
            tokens_RT, num_pushed = propose(prefixes, workload.segment_size)
            segments = tokens_RT.cpu().numpy().astype(np.int32)
            policy = policy.add(_call(num_pushed, call_started_s))
            call_started_s = time.time()
            num_pushed = self._score([np.concatenate(pair) for pair in zip(prefixes, segments, strict=True)])
            reward = reward.add(_call(num_pushed, call_started_s))
            lockstep.judge(list(segments))
        return lockstep_measurement(lockstep, watch, policy, reward)

    def _recompute(self, prefixes: list[TokenArray], num_tokens: int) -> tuple[torch.Tensor, int]:
        """Segments [R, T], and the tokens pushed, padding included. Padding is on the right, where no query sees it."""
        lengths_R = torch.tensor([len(prefix) for prefix in prefixes], device=self.policy.device)
        longest, rows = int(lengths_R.max()), torch.arange(len(prefixes), device=self.policy.device)
        tokens_RL = torch.zeros(len(prefixes), longest + num_tokens, dtype=torch.int64, device=self.policy.device)
        for row, prefix in enumerate(prefixes):
            tokens_RL[row, : len(prefix)] = torch.from_numpy(prefix)
        for t in range(num_tokens):
            body = self.policy.base_model(input_ids=tokens_RL[:, : longest + t], use_cache=False)
            last_RH = body.last_hidden_state[rows, lengths_R + t - 1]
            tokens_RL[rows, lengths_R + t] = self._draw(self.policy.get_output_embeddings()(last_RH))
        segments = torch.stack([tokens_RL[rows, lengths_R + t] for t in range(num_tokens)], dim=1)
        return segments, len(prefixes) * sum(longest + t for t in range(num_tokens))

    def _draw(self, logits_RV: torch.Tensor) -> torch.Tensor:
        logits_RV = logits_RV.float()
        if self.config.top_k:
            worst_R1 = logits_RV.topk(self.config.top_k, dim=-1).values[:, -1:]
            logits_RV = logits_RV.masked_fill(logits_RV < worst_R1, float("-inf"))
        return torch.multinomial(logits_RV.softmax(dim=-1), 1)[:, 0]

    def _generate(self, prefixes: list[TokenArray], num_tokens: int) -> tuple[torch.Tensor, int]:
        """Segments [R, T], and the tokens pushed, padding included. The last drawn token is never fed."""
        longest = max(len(prefix) for prefix in prefixes)
        tokens_RL = torch.zeros(len(prefixes), longest, dtype=torch.int64)
        mask_RL = torch.zeros_like(tokens_RL)
        for row, prefix in enumerate(prefixes):
            tokens_RL[row, longest - len(prefix) :] = torch.from_numpy(prefix)
            mask_RL[row, longest - len(prefix) :] = 1
        output = self.policy.generate(
            input_ids=tokens_RL.to(self.policy.device),
            attention_mask=mask_RL.to(self.policy.device),
            max_new_tokens=num_tokens,
            do_sample=True,
            top_k=self.config.top_k,
            eos_token_id=NO_TOKEN,
            pad_token_id=0,
        )
        return output[:, longest:], len(prefixes) * (longest + num_tokens - 1)

    def _score(self, prefixes: list[TokenArray]) -> int:
        """Score every whole sequence; the tokens pushed, padding included."""
        lengths_R = torch.tensor([len(prefix) for prefix in prefixes], device=self.reward.device)
        tokens_RL = torch.zeros(len(prefixes), int(lengths_R.max()), dtype=torch.int64)
        for row, prefix in enumerate(prefixes):
            tokens_RL[row, : len(prefix)] = torch.from_numpy(prefix)
        hidden_RLH = self.reward.base_model(
            input_ids=tokens_RL.to(self.reward.device), use_cache=False
        ).last_hidden_state
        rows = torch.arange(len(prefixes), device=self.reward.device)
        rewards_R = self.reward.score(hidden_RLH[rows, lengths_R - 1]).cpu()
        assert rewards_R.isfinite().all()
        return tokens_RL.numel()


def load_plain(auto_class: type, folder: str, config: BenchmarkConfig) -> PreTrainedModel:
    """A model as transformers loads it."""
    model = auto_class.from_pretrained(folder, dtype=getattr(torch, config.dtype))
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval().requires_grad_(False)


def _call(num_pushed: int, started_s: float) -> CallStats:
    return CallStats(np.array([num_pushed], dtype=np.int32), started_s, time.time())
