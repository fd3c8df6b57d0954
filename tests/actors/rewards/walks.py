"""Responses that grow, are rejected, go back and fork, as a run makes them; and rewards over them."""

import numpy as np

from pipeline.protocol import ScoreCohort

TEXTS = (
    "Sure. First you open the file, then you read each row; nothing is written before all rows are there.\n\n"
    "In the end the run is committed, and a report says how long it took.",
    "漢字かな交じり文です。👍🏽👍🏽 It was naïve, but the café was open. 中文字 \U0001f469‍\U0001f52c works.",
    "No.\n\n\n- one\n- two <|end|> is how a turn ends\n- three\n\tand [SEP] too",
)


def random_walk(policy, num_slots, rounds, seed, longest=60):
    """Rounds of (slots, responses), int32 tokens of the policy's tokenizer. Each round proposes a few tokens for a row;
    they are accepted or rejected, or the row goes back, starts anew, or goes on from where another one is."""
    rng = np.random.default_rng(seed)
    texts = [np.array(policy(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]) for text in TEXTS]
    source = {slot: slot % len(texts) for slot in range(num_slots)}
    length = dict.fromkeys(range(num_slots), 0)
    for _ in range(rounds):
        slots = rng.permutation(num_slots)[: rng.integers(1, num_slots + 1)].tolist()
        size = {slot: int(rng.integers(0, 8)) for slot in slots}
        junk = {slot: rng.integers(0, 3) == 0 for slot in slots}
        yield slots, [_proposal(texts[source[s]], length[s], size[s], junk[s], rng).astype(np.int32) for s in slots]
        for slot in slots:
            action = rng.choice(["accept", "reject", "back", "fork", "new"], p=[0.5, 0.25, 0.1, 0.1, 0.05])
            if action == "accept" and not junk[slot]:
                length[slot] = min(length[slot] + size[slot], len(texts[source[slot]]), longest)
            elif action == "back":
                length[slot] = max(0, length[slot] - 5)
            elif action == "fork":
                other = int(rng.integers(num_slots))
                source[slot], length[slot] = source[other], length[other]
            elif action == "new":
                source[slot], length[slot] = int(rng.integers(len(texts))), 0


def _proposal(text, length, size, is_junk, rng):
    """The text so far and its next tokens, or others in their place."""
    if is_junk:
        return np.concatenate([text[:length], rng.permutation(text)[:size]])
    return text[: length + size]


def cohort_of(slots, rows, texts, finished):
    """Conversations that come as text."""
    nothing = np.zeros(len(slots), np.int32)
    return ScoreCohort(
        slots_R=np.array(slots, np.int32),
        rows=tuple(rows),
        response_tokens=np.zeros(0, np.int32),
        response_lengths_R=nothing,
        finished_R=np.array(finished),
        room_R=nothing,
        texts=tuple(texts),
    )
