"""Every model checks itself at load: in its engine, on its device, against the plain forward of its own class.

What is run, on sequences of at most 24 random tokens: a first feed of three rows of unlike length of which two share a
head, one of them in two chunks; then in one call a fork from a slot, a roll-back within a slot, and a row of which two
tokens are taken back; after each, two decode steps, or a score. A policy's decoder draws two tokens of highest logit
besides, which on a GPU includes captured steps. The plain forwards are taken before our attention is set and the layers
are packed.

Tolerance, as a part of what the logits of a position spread around their mean (of the largest reward): 0.001 in
float32, where a right engine is off by 1e-6 to 1e-5; 0.1 in float16 and 0.25 in bfloat16, where rounding alone gives a
hundredth and a tenth. Wrong columns, positions or weights give 0.05 to 1.4. What shows in long sequences only (a window
of a thousand tokens) is beyond its reach.

Cost: 8 plain forwards and 9 of the engine, of a few tokens each: 0.1 s for the embedded models, 0.7 s for 30M
parameters in float32, on one thread of a CPU.
"""

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from actors.engines.plain_check import TOLERANCE
from actors.engines.plain_forward import NUM_STEPS, PROMPTS, WORKS, PlainForward, refusing
from actors.engines.policy_engine import PolicyEngine
from actors.engines.reward_engine import RewardEngine, weighted
from actors.engines.slot_model import SlotModel
from actors.engines.static_decoding import StaticDecoder
from pipeline.errors import ConfigError
from pipeline.protocol import ProposeCohort
from pipeline.records import TokenArray

FIRST_CHUNK = 5
ROUNDS = (  # slot → sequence
    dict(zip((2, 0, 3), PROMPTS, strict=True)),
    {1: "forked", 2: "rolled back", 0: "shared"},
)


@torch.inference_mode()
def check_policy(engine: PolicyEngine, plain: PlainForward) -> None:
    """Compare an engine's logits with the plain forward's, and leave it as new.

    Raises:
        ConfigError: they are others, or it cannot be run.
    """
    slots, is_static = engine.slots, isinstance(engine.decoder, StaticDecoder)
    with refusing(slots.model, "in slots"):
        slots.catch_up(np.array([2]), [plain.sequences["long"][:FIRST_CHUNK]], keep_last=True)
        for names in ROUNDS:
            sequences = [plain.sequences[name] for name in names.values()]
            slots_R = np.array(list(names), dtype=np.int64)
            slots.catch_up(slots_R, [tokens[: 1 - NUM_STEPS] for tokens in sequences], keep_last=True)
            for step in range(-NUM_STEPS, 0):
                found_RV = _step(slots, is_static, slots_R, sequences, step)
                for name, found_V in zip(names.values(), found_RV, strict=True):
                    _compare(slots.model, name, found_V, plain.outputs[name][step])
            for slot, tokens in zip(names, sequences, strict=True):
                slots.hold(slot, tokens)
        _check_greedy(engine, plain)
    slots.reset()


@torch.inference_mode()
def check_reward(engine: RewardEngine, slots: SlotModel, plain: PlainForward) -> None:
    """Compare an engine's rewards with the plain forward's, and leave it as new.

    Raises:
        ConfigError: they are others, or it cannot be run.
    """
    model = slots.model
    expected = {
        name: float(weighted(output.double().cpu().numpy()[None], engine.weights)[0])
        for name, output in plain.outputs.items()
    }
    largest = max(abs(reward) for reward in expected.values())
    with refusing(model, "in slots"):
        engine.score(np.array([2], dtype=np.int32), [plain.sequences["long"][:FIRST_CHUNK]])
        for names in ROUNDS:
            prefixes = [plain.sequences[name] for name in names.values()]
            rewards_R, _ = engine.score(np.array(list(names), dtype=np.int32), prefixes)
            for name, reward in zip(names.values(), rewards_R.tolist(), strict=True):
                _judge(model, name, abs(reward - expected[name]), largest)
    slots.reset()


def _step(
    slots: SlotModel, is_static: bool, slots_R: npt.NDArray[np.int64], sequences: list[TokenArray], step: int
) -> torch.Tensor:
    """Logits [R, V] after the token that is `step` from the end of each sequence, through the decoder's own forward."""
    starts_R = np.array([len(tokens) + step for tokens in sequences], dtype=np.int64)
    tokens_R = np.array([tokens[step] for tokens in sequences], dtype=np.int32)
    if is_static:
        inputs = slots.step_inputs(slots_R, starts_R, tokens_R)
        read_length = slots.shapes.step_length(int(starts_R.max()) + 1)
        found, order = (
            slots.next_logits_static(inputs.rows, inputs.starts_W, inputs.tokens_W, read_length),
            inputs.order,
        )
    else:
        rows_R, order = slots.cache.select(slots_R)
        found = slots.next_logits(rows_R, starts_R[order], tokens_R[order].astype(np.int64))
    return found[torch.from_numpy(np.argsort(order))].float()


def _check_greedy(engine: PolicyEngine, plain: PlainForward) -> None:
    """The decoder draws tokens of highest plain logit, but for near ties."""
    names = ROUNDS[0]
    prompts = [plain.sequences[name][:-NUM_STEPS] for name in names.values()]
    drawn = engine.propose(_greedy_cohort(list(names), prompts))
    for name, tokens, length in zip(names.values(), drawn.tokens_RT, drawn.lengths_R, strict=True):
        for logits_V, token in zip(plain.greedy[name], tokens[:length].tolist(), strict=False):
            _judge(engine.slots.model, name, float(logits_V.max() - logits_V[token]), _spread(logits_V))
            if token != int(logits_V.argmax()):
                break


def _greedy_cohort(slots: list[int], prompts: list[TokenArray]) -> ProposeCohort:
    R = len(slots)
    return ProposeCohort(
        slots_R=np.array(slots, dtype=np.int32),
        prefix_tokens=np.concatenate(prompts),
        prefix_lengths_R=np.array([len(prompt) for prompt in prompts], dtype=np.int32),
        num_tokens_R=np.full(R, NUM_STEPS, dtype=np.int32),
        row_keys_R=np.zeros(R, dtype=np.int64),
        draw_keys_R3=np.zeros((R, 3), dtype=np.int64),
        temperature_R=np.zeros(R, dtype=np.float32),
        top_p_R=np.ones(R, dtype=np.float32),
        top_k_R=np.zeros(R, dtype=np.int32),
    )


def _spread(logits_V: torch.Tensor) -> float:
    return float((logits_V - logits_V.mean()).square().mean().sqrt())


def _compare(model: PreTrainedModel, name: str, found_V: torch.Tensor, expected_V: torch.Tensor) -> None:
    _judge(model, name, float((found_V - expected_V).square().mean().sqrt()), _spread(expected_V))


def _judge(model: PreTrainedModel, name: str, difference: float, scale: float) -> None:
    """Raises ConfigError when a difference is beyond the tolerance, or no number."""
    allowed = TOLERANCE[model.dtype]
    if not difference <= allowed * scale:
        raise ConfigError(
            f"{model.config.model_type} gives other numbers in slots than by itself: the {name} row is off by "
            f"{difference / scale:.2g} of their spread ({allowed:g} allowed in {model.dtype}); {WORKS}"
        )
