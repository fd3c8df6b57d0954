"""The slot engine against plain forward passes without any cache, through random accept, reject and swap sequences."""

import copy

import numpy as np
import pytest
import torch

from actors.engines.packed_linear import pack_linears
from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import RewardEngine
from actors.engines.slot_model import SlotModel
from pipeline.protocol import ProposeCohort
from tests.tiny_models import CONFIGS, MAX_LEN, VOCABULARY, causal_model, engine_config, reward_model

SEGMENT = 5
TOLERANCE = {
    torch.float32: 1e-4,
    torch.bfloat16: 2**-4,  # four steps of its 8 bits between 2 and 4, where the largest logits and rewards lie
}


class RecordingPolicy(PolicyEngine):
    """Keeps every decode step's logits as (slot, position, logits)."""

    def __init__(self, *args):
        super().__init__(*args)
        self.seen = []
        for name in ("next_logits", "next_logits_static"):
            setattr(self.slots, name, self.recorded(getattr(self.slots, name)))

    def recorded(self, next_logits):
        def recording(rows, starts_W, *args):
            starts = starts_W.tolist()
            logits_WV = next_logits(rows, starts_W, *args)
            slots = self.slots.cache.slot_of_row[rows]
            self.seen += [(int(s), p, logits_WV[i].clone()) for i, (s, p) in enumerate(zip(slots, starts, strict=True))]
            return logits_WV

        return recording


def reward_engine(model, engine):
    return RewardEngine(SlotModel(model, engine), model.score)


def cohort_of(slots, prefixes, num_tokens, attempt, temperature=1.0, top_k=0, top_p=1.0):
    n = len(slots)
    return ProposeCohort(
        slots_R=np.array(slots, dtype=np.int32),
        prefix_tokens=np.concatenate(prefixes).astype(np.int32),
        prefix_lengths_R=np.array([len(p) for p in prefixes], dtype=np.int32),
        num_tokens_R=np.array(num_tokens, dtype=np.int32),
        row_keys_R=np.array(slots, dtype=np.int64) * 7919 + 1,
        draw_keys_R3=np.array([(0, len(p), attempt) for p in prefixes], dtype=np.int64),
        temperature_R=np.full(n, temperature, dtype=np.float32),
        top_p_R=np.full(n, top_p, dtype=np.float32),
        top_k_R=np.full(n, top_k, dtype=np.int32),
    )


def scored(engine, slots, prefixes):
    """Rewards and tokens pushed, as lists' worth of arrays."""
    rewards_R, stats = engine.score(np.array(slots, dtype=np.int32), [np.asarray(p, dtype=np.int32) for p in prefixes])
    return rewards_R, stats.pushed_tokens_R


def random_prompt(rng, shared_head):
    tokens = rng.integers(2, VOCABULARY, size=rng.integers(1, 45)).astype(np.int32)
    if rng.random() < 0.5:
        tokens = np.concatenate([shared_head, tokens[:20]])
    return tokens


def random_walk(num_slots, rounds, seed):
    """Yields (slots, prefixes) and is sent the candidates; prefixes are accepted, rejected, kept from an older
    attempt (fallback) or swapped for a new prompt at random."""
    rng = np.random.default_rng(seed)
    shared_head = rng.integers(2, VOCABULARY, size=20).astype(np.int32)
    prefix = {slot: random_prompt(rng, shared_head) for slot in range(num_slots)}
    earlier = {slot: None for slot in prefix}
    for _ in range(rounds):
        slots = list(rng.permutation(num_slots)[: rng.integers(1, num_slots + 1)])
        candidates = yield slots, [prefix[s] for s in slots]
        for slot, candidate in zip(slots, candidates, strict=True):
            action = rng.choice(["accept", "reject", "fallback", "swap"], p=[0.4, 0.3, 0.15, 0.15])
            if action == "fallback" and earlier[slot] is None:
                earlier[slot] = candidate
                continue
            kept = {"accept": candidate, "fallback": earlier[slot]}.get(action)
            if kept is not None:
                prefix[slot] = np.concatenate([prefix[slot], kept])
                earlier[slot] = None
            if action == "swap" or len(prefix[slot]) + SEGMENT > MAX_LEN or (kept is not None and kept[-1] == 1):
                prefix[slot], earlier[slot] = random_prompt(rng, shared_head), None


@pytest.mark.parametrize(
    ("prefill_chunk", "shapes_of", "dtype"),
    [
        (512, "cpu", torch.float32),
        (7, "cpu", torch.float32),
        (512, "cuda", torch.float32),
        (7, "cpu", torch.bfloat16),
        (512, "cuda", torch.bfloat16),
    ],
)
@pytest.mark.parametrize("name", CONFIGS)
def test_policy_logits_equal_plain_forward(name, prefill_chunk, shapes_of, dtype):
    """Both decoders, the static one without its capture; the linear layers packed, as loading packs them."""
    plain = causal_model(name, dtype=dtype)
    model = copy.deepcopy(plain)
    pack_linears(model)
    engine = RecordingPolicy(model, engine_config(prefill_chunk=prefill_chunk), (1,), shapes_of)
    walk, candidates, worst, num_steps = random_walk(6, 25, seed=3), None, 0.0, 0
    for attempt in range(25):
        slots, prefixes = walk.send(candidates)
        engine.seen.clear()
        num_tokens = [min(SEGMENT, 1 + (attempt + s) % 7) for s in slots]
        result = engine.propose(cohort_of(slots, prefixes, num_tokens, attempt))
        candidates = [t[:n] for t, n in zip(result.tokens_RT, result.lengths_R, strict=True)]
        whole = {s: np.concatenate([p, c]) for s, p, c in zip(slots, prefixes, candidates, strict=True)}
        with torch.inference_mode():
            reference = {s: plain(torch.from_numpy(t.astype(np.int64))[None]).logits[0] for s, t in whole.items()}
        for slot, position, logits in engine.seen:
            if slot not in whole or position >= len(whole[slot]) - 1:
                continue  # a filler, or a row that ended
            worst = max(worst, float((logits - reference[slot][position]).abs().max()))
            num_steps += 1
    assert num_steps > 150
    assert worst < TOLERANCE[dtype]


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_tokens_in_bfloat16_are_those_of_plain_forwards(name):
    """Where the plain forward's best token leads by more than the tolerance; it does at most places."""
    plain = causal_model(name, dtype=torch.bfloat16)
    model = copy.deepcopy(plain)
    pack_linears(model)
    engine = PolicyEngine(model, engine_config(), (VOCABULARY + 1,))
    rng = np.random.default_rng(13)
    prompts = [rng.integers(2, VOCABULARY, size=n).astype(np.int32) for n in (4, 30, 17, 9, 41, 23)]
    drawn = engine.propose(cohort_of(range(6), prompts, [40] * 6, 0, temperature=0.0)).tokens_RT
    num_clear = 0
    for prompt, tokens in zip(prompts, drawn, strict=True):
        with torch.inference_mode():
            whole = torch.from_numpy(np.concatenate([prompt, tokens]).astype(np.int64))[None]
            best_T2, ids_T2 = plain(whole).logits[0, len(prompt) - 1 : -1].topk(2)
        is_clear = (best_T2[:, 0] - best_T2[:, 1] > TOLERANCE[torch.bfloat16]).numpy()
        assert (tokens == ids_T2[:, 0].numpy())[is_clear].all()
        num_clear += is_clear.sum()
    assert num_clear > 0.6 * 240


@pytest.mark.parametrize(("prefill_chunk", "dtype"), [(512, torch.float32), (7, torch.float32), (7, torch.bfloat16)])
@pytest.mark.parametrize("name", CONFIGS)
def test_rewards_equal_plain_forward(name, prefill_chunk, dtype):
    plain = reward_model(name, dtype=dtype)
    model = copy.deepcopy(plain)
    pack_linears(model)
    engine = reward_engine(model, engine_config(prefill_chunk=prefill_chunk))
    rng = np.random.default_rng(5)
    walk, candidates, rewards = random_walk(6, 25, seed=4), None, []
    for _ in range(25):
        slots, prefixes = walk.send(candidates)
        candidates = [rng.integers(2, VOCABULARY, size=rng.integers(1, SEGMENT + 1)).astype(np.int32) for _ in slots]
        whole = [np.concatenate([p, c]) for p, c in zip(prefixes, candidates, strict=True)]
        rewards_R, _ = scored(engine, slots, whole)
        with torch.inference_mode():
            expected = [float(plain(torch.from_numpy(t.astype(np.int64))[None]).logits[0, 0]) for t in whole]
        np.testing.assert_allclose(rewards_R, expected, atol=TOLERANCE[dtype], rtol=0)
        rewards += expected
    assert np.std(rewards) > 10 * TOLERANCE[dtype]


def test_reward_is_read_at_the_last_real_token_when_pad_equals_end():
    plain = reward_model("llama")
    plain.config.pad_token_id = 1
    engine = reward_engine(copy.deepcopy(plain), engine_config())
    closed = np.array([5, 6, 7, 1], dtype=np.int32)
    with torch.inference_mode():
        hidden = plain.model(torch.tensor([[5, 6, 7, 1]])).last_hidden_state[0, -1]
        expected = float(plain.score(hidden)[0])
        misread = float(plain(torch.tensor([[5, 6, 7, 1]])).logits[0, 0])
    rewards = scored(engine, [0, 3], [closed, closed[:2]])[0]
    assert abs(rewards[0] - expected) < TOLERANCE[torch.float32]
    assert (
        abs(misread - expected) > 10 * TOLERANCE[torch.float32]
    )  # transformers' own reading, which this engine must not share


def test_tokens_pushed_are_the_ideal_through_rejections():
    engine = PolicyEngine(causal_model("llama"), engine_config(), (VOCABULARY + 1,))
    prompt = np.arange(2, 32, dtype=np.int32)
    first = engine.propose(cohort_of([0], [prompt], [SEGMENT], 0))
    assert first.stats.pushed_tokens_R.tolist() == [len(prompt) - 1 + SEGMENT]
    second = engine.propose(cohort_of([0], [prompt], [SEGMENT], 1))
    assert second.stats.pushed_tokens_R.tolist() == [SEGMENT]
    accepted = np.concatenate([prompt, second.tokens_RT[0]])
    assert engine.propose(cohort_of([0], [accepted], [SEGMENT], 0)).stats.pushed_tokens_R.tolist() == [SEGMENT]
    fallback = np.concatenate([prompt, first.tokens_RT[0]])
    expected = SEGMENT - 1 + SEGMENT  # the kept segment was overwritten by the second attempt
    assert engine.propose(cohort_of([0], [fallback], [SEGMENT], 0)).stats.pushed_tokens_R.tolist() == [expected]


def test_reward_tokens_pushed_are_the_ideal_through_rejections():
    engine = reward_engine(reward_model("llama"), engine_config())
    prompt, segment = np.arange(2, 32, dtype=np.int32), np.arange(40, 45, dtype=np.int32)
    assert scored(engine, [2], [prompt])[1].tolist() == [30]
    for candidate in (segment, segment + 6, segment + 9):
        whole = np.concatenate([prompt, candidate])
        assert scored(engine, [2], [whole])[1].tolist() == [5]
    accepted = np.concatenate([prompt, segment + 9, segment])
    assert scored(engine, [2], [accepted])[1].tolist() == [5]


def test_lanes_and_shared_heads_are_computed_once():
    engine = PolicyEngine(causal_model("qwen3"), engine_config(), (VOCABULARY + 1,))
    prompt = np.arange(2, 42, dtype=np.int32)
    lanes = engine.propose(cohort_of([0, 1, 2, 3], [prompt] * 4, [SEGMENT] * 4, 0))
    assert sorted(lanes.stats.pushed_tokens_R.tolist()) == [SEGMENT] * 3 + [39 + SEGMENT]
    same_head = np.concatenate([prompt[:30], [7, 8, 9]]).astype(np.int32)
    other = engine.propose(cohort_of([5], [same_head], [SEGMENT], 0))
    assert other.stats.pushed_tokens_R.tolist() == [2 + SEGMENT]


def test_a_forgotten_cache_changes_no_token():
    engine = PolicyEngine(causal_model("gemma3"), engine_config(), (VOCABULARY + 1,))
    prefixes = [np.arange(2, 30, dtype=np.int32), np.arange(9, 20, dtype=np.int32)]
    before = engine.propose(cohort_of([0, 4], prefixes, [SEGMENT] * 2, 0)).tokens_RT
    engine.slots.table.clear()
    after = engine.propose(cohort_of([3, 1], prefixes, [SEGMENT] * 2, 0))
    again = engine.propose(cohort_of([0, 4], prefixes, [SEGMENT] * 2, 0)).tokens_RT
    assert (before == again).all()
    assert after.stats.pushed_tokens_R.tolist() == [27 + SEGMENT, 10 + SEGMENT]


def test_end_token_finishes_the_row_inside_the_segment():
    model = causal_model("llama", scale=0.0)  # uniform logits: every id is an end token for one row or another
    engine = PolicyEngine(model, engine_config(), tuple(range(0, VOCABULARY, 2)))
    prompts = [np.array([3, 4 + i], dtype=np.int32) for i in range(6)]
    result = engine.propose(cohort_of(range(6), prompts, [40] * 6, 0))
    assert result.finished_R.all()
    for tokens, length in zip(result.tokens_RT, result.lengths_R, strict=True):
        assert tokens[length - 1] % 2 == 0
        assert (tokens[: length - 1] % 2 == 1).all()
    assert len(set(result.lengths_R.tolist())) > 1


def test_both_decoders_draw_the_same_tokens():
    """The static decoder keeps drawing for rows that ended and fills its cohort up; no draw changes by that."""
    rng = np.random.default_rng(2)
    prompts = [rng.integers(2, VOCABULARY, size=n).astype(np.int32) for n in (3, 20, 9, 31, 14)]
    numbers, answers = [12, 5, 12, 9, 12], []
    for shapes_of in ("cpu", "cuda"):
        engine, rounds, ends = PolicyEngine(causal_model("llama"), engine_config(), (1, 2, 3), shapes_of), [], 0
        for attempt in range(4):
            cohort = cohort_of(
                range(5), prompts, numbers, attempt, temperature=0.9, top_k=30 * (attempt % 2), top_p=0.9
            )
            drawn = engine.propose(cohort)
            ends += int(drawn.finished_R.sum())
            rounds.append(
                [t[:n].tolist() for t, n in zip(drawn.tokens_RT, drawn.lengths_R, strict=True)]
                + [drawn.finished_R.tolist(), drawn.stats.pushed_tokens_R.tolist()]
            )
        assert ends
        answers.append(rounds)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("shapes_of", ["cpu", "cuda"])
def test_logits_that_are_not_finite_mark_their_row_alone(shapes_of):
    model = causal_model("llama")
    model.get_input_embeddings().weight.data[5] = float("nan")
    engine = PolicyEngine(model, engine_config(), (1,), shapes_of)
    drawn = engine.propose(
        cohort_of([0, 1, 2], [np.array(p, dtype=np.int32) for p in ([3, 4], [3, 5], [6])], [2] * 3, 0)
    )
    assert drawn.invalid_R.tolist() == [5 in row for row in ([3, 4], [3, 5], [6])]


def test_a_reward_has_the_same_bits_in_any_batch_and_after_any_history():
    """fp32, one thread, packed layers: what a resumed or differently shaped run scores is byte for byte the same."""
    rng = np.random.default_rng(7)
    model = reward_model("llama")
    pack_linears(model)
    prefixes = [rng.integers(2, VOCABULARY, size=n).astype(np.int32) for n in rng.integers(20, 90, size=12)]
    whole, _ = scored(reward_engine(model, engine_config(slots=12)), range(12), prefixes)
    stepwise = reward_engine(model, engine_config(slots=12, prefill_chunk=7))
    for cut in (5, 11, 19):
        scored(stepwise, range(12), [prefix[:cut] for prefix in prefixes])
    order = rng.permutation(12)
    parts = [scored(stepwise, part, [prefixes[i] for i in part])[0] for part in np.split(order, 3)]
    assert np.array_equal(np.concatenate(parts), whole[order])
