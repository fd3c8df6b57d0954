"""The benchmark's arithmetic and one tiny run of the whole command; nothing here is timed."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest

from jobs.benchmark.__main__ import main
from jobs.benchmark.config import ALL_CONTENDERS, BenchmarkConfig
from jobs.benchmark.contenders import STARTERS
from jobs.benchmark.engine_contenders import MeasuredPolicyActor, MeasuredRewardActor, PipelineContender
from jobs.benchmark.measurement import Measurement, ProcessUsage
from jobs.benchmark.model_folders import SHAPES, llama_config, make_model_folders
from jobs.benchmark.results import BenchmarkReport, ContenderReport, find_ratios
from jobs.benchmark.workload import Lockstep, Workload
from pipeline.runs.usage import RoleUsage
from tests.handles import LocalHandle, LocalMethod

TINY = {
    "size": "tiny",
    "num_prompts": 6,
    "prompt_tokens_min": 5,
    "prompt_tokens_max": 20,
    "max_new_tokens": 16,
    "segment_size": 4,
    "slots": 8,
    "rounds": 1,
    "warmup_rounds": 0,
    "reference_prompts": 2,
    "reference_batch": 3,
}
GUARD = """
import runpy, sys
sys.argv = ["jobs.benchmark", *sys.argv[1:]]
try:
    runpy.run_module("jobs.benchmark", run_name="__main__")
finally:
    print(f"imported: {sorted({'ray', 'torch', 'transformers', 'matplotlib'} & set(sys.modules))}")
"""


def workload(attempts, prompts=((1, 2, 3), (4, 5)), segment_size=2):
    arrays = tuple(np.array(prompt, dtype=np.int32) for prompt in prompts)
    return Workload(arrays, tuple("ab"[: len(prompts)]), np.array(attempts), segment_size)


def measurement(accepted=4, wall_s=2.0, policy_tokens=22, reward_tokens=11, coordinator_cpu_s=None):
    policy = RoleUsage(1, 2, policy_tokens, 1.0, 2.0, 12.0, prefill_s=0.25, sampling_s=0.25)
    reward = RoleUsage(1, 2, reward_tokens, 0.5, 2.0, 12.0, prefill_s=0.5)
    processes = (ProcessUsage("policy", 1),)
    return Measurement(wall_s, wall_s, 5, accepted, 8, 15, 6, policy, reward, processes, coordinator_cpu_s)


def test_the_ideal_counts_each_prompt_and_each_proposed_token_once():
    # 5 prompt tokens, 15 proposed, 6 of them scored; pushed 22 and 11.
    done = measurement()
    assert (done.policy_ideal_tokens, done.policy_over_ideal) == (20, 1.1)
    assert (done.reward_ideal_tokens, done.reward_over_ideal) == (11, 1.0)
    assert (done.accepted_tokens_per_s, done.acceptance, done.decode_s, done.busier_fraction) == (2.0, 0.5, 0.5, 0.5)


def test_lockstep_accepts_where_the_coins_say_and_refills():
    lockstep = Lockstep(workload([[2, 1], [1, 3]]), width=1)
    prefixes = []
    for step in range(7):
        assert [live.slot for live in lockstep.live] == [0]
        prefixes.append(lockstep.live[0].prefix.tolist())
        lockstep.judge([np.array([10 + step, 20 + step])])
    assert not lockstep.live and not lockstep.waiting
    assert prefixes == [[1, 2, 3], [1, 2, 3], [1, 2, 3, 11, 21], [4, 5]] + 3 * [[4, 5, 13, 23]]
    counts = lockstep.num_prompt_tokens, lockstep.num_proposed_tokens, lockstep.num_accepted_tokens
    assert counts == (5, 14, 8)


def test_coins_fall_as_asked_and_prompts_of_two_streams_differ():
    config = BenchmarkConfig(num_prompts=500, acceptance=0.3)
    one, other = (Workload.of(config, 512, 1, stream) for stream in ("vllm", "plain"))
    attempts = one.num_attempts_NS
    assert attempts.shape == (500, 8)
    num_trials = attempts.sum()
    assert abs(attempts.size - 0.3 * num_trials) < 4 * np.sqrt(0.3 * 0.7 * num_trials)
    assert (attempts == other.num_attempts_NS).all()
    lengths = [len(prompt) for prompt in one.prompts]
    assert lengths == [len(prompt) for prompt in other.prompts]
    assert (min(lengths), max(lengths)) == (64, 256)
    assert not any((a[:8] == b[:8]).all() for a, b in zip(one.prompts, other.prompts, strict=True))


def test_ratios_are_taken_round_by_round():
    ours, theirs = (measurement(accepted=a, coordinator_cpu_s=0.1) for a in (8, 4))
    reports = [
        ContenderReport.of("pipeline k=1", [ours, ours], None),
        ContenderReport.of("plain", [theirs, ours], None),
        ContenderReport.of("vllm", [], "not installed"),
    ]
    ratios = {ratio.name: ratio.value for ratio in find_ratios(reports, 0.5)}
    tax = ratios["pipeline k=1 / (0.5 x plain), the alignment tax"]
    assert (tax.min, tax.median, tax.max) == (1.0, 1.5, 2.0)  # all 8 judged tokens were accepted
    assert ratios["pipeline k=1: Ray and coordinator, share of wall time"].median == 0.5
    assert ratios["pipeline k=1: coordinator CPU, share of wall time"].median == 0.05
    assert len(ratios) == 3


@pytest.mark.parametrize(("size", "millions"), [("5M", 5), ("30M", 30), ("110M", 110), ("1B", 1000), ("7B", 7000)])
def test_a_size_is_what_its_name_says(size, millions):
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(llama_config(SHAPES[size], 2048))
    assert model.num_parameters() == pytest.approx(millions * 1e6, rel=0.06)


def test_every_contender_can_be_started_by_name():
    assert tuple(STARTERS) == ALL_CONTENDERS


def test_parallel_proposals_draw_more_and_judge_the_same(tmp_path):
    config = BenchmarkConfig.model_validate(TINY)
    folders = make_model_folders(config, tmp_path)
    pipeline = config.pipeline(2, folders.policy, folders.reward)
    actors = (
        MeasuredPolicyActor(pipeline.policy, pipeline.engine),
        MeasuredRewardActor(pipeline.reward, pipeline.engine),
    )
    policy, reward = handles = [LocalHandle(actor) for actor in actors]
    for handle, actor in zip(handles, actors, strict=True):
        handle.usage = LocalMethod(actor.usage, handle.executor)
    coins = Workload.of(config, folders.vocabulary_size, 0, "here")
    done = asyncio.run(PipelineContender(pipeline, policy, reward).run(coins))
    for handle in handles:
        handle.close()
    assert done.num_accepted_tokens == 6 * 16
    assert done.num_judged_tokens == 4 * coins.num_attempts_NS.sum() < done.num_proposed_tokens
    assert {usage.process for usage in done.processes} == {"policy", "reward", "coordinator"}


@pytest.mark.ray
def test_a_tiny_run_of_the_whole_command(ray_cluster, tmp_path, capsys):
    contenders = ["pipeline", "recompute", "recompute_batched", "generate_per_segment_batched", "plain", "policy_part"]
    options = TINY | {"contenders": f"[{', '.join([*contenders, 'vllm'])}]", "output": tmp_path / "out"}
    options |= {"proposals_per_round": "[1]", "vllm_python": "/bin/false"}
    assert main([f"{key}={value}" for key, value in options.items()]) == 0
    report = BenchmarkReport.load(tmp_path / "out" / "benchmark.json")
    assert (tmp_path / "out" / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert "alignment tax" in capsys.readouterr().out
    failures = {contender.name: contender.failure for contender in report.contenders if contender.failure}
    assert list(failures) == ["vllm"] and "exit code 1" in failures["vllm"]
    done = {contender.name: contender.rounds[0] for contender in report.contenders if contender.rounds}
    assert list(done) == ["pipeline k=1", *contenders[1:]]
    config = BenchmarkConfig.model_validate(TINY)
    coins = Workload.of(config, 512, 0, "pipeline k=1").num_attempts_NS
    check_tokens(done, coins)
    check_recompute(done["recompute"], Workload.of(config, 512, 0, "recompute").head(2))


def check_tokens(done, coins):
    """Our own contenders push what they must, and the pipeline judges what the coins say."""
    for name in ("pipeline k=1", "policy_part"):
        assert done[name].num_judged_tokens == done[name].num_proposed_tokens == 4 * coins.sum()
        assert done[name].num_accepted_tokens == 6 * 16
        assert done[name].policy_over_ideal <= 1.02
    assert done["pipeline k=1"].reward_over_ideal <= 1.02
    assert done["plain"].num_judged_tokens == done["plain"].num_accepted_tokens == 6 * 16
    assert done["generate_per_segment_batched"].num_judged_tokens == 4 * coins[:3].sum()


def check_recompute(recompute, coins):
    """Every proposed token costs its whole prefix, every reward the whole sequence."""
    policy_tokens = reward_tokens = 0
    for prompt, attempts_S in zip(coins.prompts, coins.num_attempts_NS, strict=True):
        for segment, attempts in enumerate(attempts_S.tolist()):
            length = len(prompt) + 4 * segment
            policy_tokens += attempts * sum(length + t for t in range(4))
            reward_tokens += attempts * (length + 4)
    assert (recompute.policy.num_tokens, recompute.reward.num_tokens) == (policy_tokens, reward_tokens)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sise=5M", "sise: unknown key; did you mean 'size'?"),
        ("size=6M", "size: "),
        ("segment_size=15", "segment_size = 15 must divide max_new_tokens = 128"),
        ("contenders=[vlm]", "contenders"),
        ("policy.model=/none", "policy.model: model folder '/none' does not exist"),
        ("vllm_python=/none", "vllm_python: no such interpreter"),
    ],
)
def test_a_mistake_exits_2_with_one_line(override, words, capsys):
    assert main([override]) == 2
    error = capsys.readouterr().err
    assert words in error and error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize("argument", ["--help", "rounds=0"])
def test_nothing_heavy_is_imported_before_the_config_is_checked(argument):
    ended = subprocess.run([sys.executable, "-c", GUARD, argument], capture_output=True, text=True, check=False)
    assert "imported: []" in ended.stdout
    assert ended.returncode == (0 if argument == "--help" else 2)
    assert "vllm_python" in ended.stdout if argument == "--help" else "rounds: " in ended.stderr
