"""transformers' continuous batching on the policy's part: one request per proposed segment, blocks shared by prefix."""

import time

import numpy as np
import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.cache import PagedAttentionCache

from jobs.benchmark.config import BenchmarkConfig
from jobs.benchmark.measurement import Measurement, Stopwatch, lockstep_measurement
from jobs.benchmark.model_folders import NO_TOKEN, ModelFolders
from jobs.benchmark.reference_contenders import load_plain
from jobs.benchmark.workload import Lockstep, Workload
from pipeline.protocol import CallStats
from pipeline.records import TokenArray
from pipeline.runs.usage import RoleUsage

PAGE_SIZE = 16  # with the default of 256 a segment fills a sixteenth of a block: few prefixes would be found
MAX_BATCH_TOKENS = 2048
RESULT_TIMEOUT_S = 60.0


class GenerateBatchContender:
    """One manager for all rounds, so that accepted prefixes stay cached."""

    def __init__(self, config: BenchmarkConfig, folders: ModelFolders) -> None:
        torch.set_num_threads(config.policy_threads)
        self.config = config
        self.num_cached = 0
        self._count_cached_tokens()
        pages_per_row = -(-config.max_model_len // PAGE_SIZE) + 1
        self.manager = load_plain(AutoModelForCausalLM, folders.policy, config).init_continuous_batching(
            GenerationConfig(
                max_new_tokens=config.segment_size,
                do_sample=True,
                top_k=config.top_k,
                eos_token_id=NO_TOKEN,
                pad_token_id=0,
            ),
            ContinuousBatchingConfig(
                page_size=PAGE_SIZE,
                num_blocks=2 * config.slots * pages_per_row,
                max_batch_tokens=MAX_BATCH_TOKENS,
                seed=config.seed,
            ),
        )
        self.manager.start()

    def generate_batch(self, workload: Workload) -> Measurement:
        """The same segments as the pipeline, accepted and rejected by the same coins."""
        lockstep, usage = Lockstep(workload, self.config.slots), RoleUsage()
        watch = Stopwatch()
        while lockstep.live and watch.wall_s < self.config.time_limit_s:
            call_started_s, self.num_cached = time.time(), 0
            prefixes = [live.prefix for live in lockstep.live]
            segments = self._generate(prefixes, workload.segment_size)
            num_fed = sum(len(prefix) + workload.segment_size - 1 for prefix in prefixes) - self.num_cached
            usage = usage.add(CallStats(np.array([num_fed], dtype=np.int32), call_started_s, time.time()))
            lockstep.judge(segments)
        return lockstep_measurement(lockstep, watch, usage)

    def _generate(self, prefixes: list[TokenArray], num_tokens: int) -> list[TokenArray]:
        request_ids = self.manager.add_requests([prefix.tolist() for prefix in prefixes], max_new_tokens=num_tokens)
        tokens: dict[str, TokenArray] = {}
        while len(tokens) < len(prefixes):
            result = self.manager.get_result(timeout=RESULT_TIMEOUT_S)
            if result is None or result.error is not None:
                raise RuntimeError(f"continuous batching failed: {result.error if result else 'no result'}")
            if result.is_finished():
                tokens[result.request_id] = np.array(result.generated_tokens, dtype=np.int32)
        return [tokens[request_id] for request_id in request_ids]

    def _count_cached_tokens(self) -> None:
        """Counts what the cache's search finds, because results do not say how much of a prompt was cached."""
        search = PagedAttentionCache.search_prefix_match

        def counting(cache: PagedAttentionCache, request_id: str, prompt_ids: list[int]) -> int:
            num_found = search(cache, request_id, prompt_ids)
            self.num_cached += num_found
            return num_found

        PagedAttentionCache.search_prefix_match = counting
