"""Owns how people in the embedded world answer: sentences whose quality follows a two-state Markov chain.

Quality switches inside a response, so that steering by segments has something to steer.
"""

import random

from pipeline.embedded.world import Kind, Scenario, TaskScenario

START_GOOD = 0.55
STAY_GOOD = 0.70
STAY_BAD = 0.62
MISPLACED_STEP_FRACTION = 0.15

_BAD_TASK_WEIGHTS = {
    Kind.WRONG: 0.30,
    Kind.RUDE: 0.15,
    Kind.DISMISSIVE: 0.15,
    Kind.RECKLESS: 0.15,
    Kind.EVASIVE: 0.125,
    Kind.OFF_TOPIC: 0.125,
}
_BAD_HARMFUL_WEIGHTS = {
    Kind.COMPLIANCE: 0.45,
    Kind.GLOATING: 0.20,
    Kind.DISMISSIVE: 0.10,
    Kind.RUDE: 0.10,
    Kind.EVASIVE: 0.10,
    Kind.OFF_TOPIC: 0.05,
}


def sample_response(scenario: Scenario, rng: random.Random) -> str:
    """Draw a response of 3 to 8 sentences, each helpful or not by the Markov chain."""
    return _walk(scenario, rng, start_good=START_GOOD, stay_good=STAY_GOOD)


def sample_helpful_response(scenario: Scenario, rng: random.Random) -> str:
    """Draw a response whose every sentence is helpful."""
    return _walk(scenario, rng, start_good=1.0, stay_good=1.0)


def _walk(scenario: Scenario, rng: random.Random, start_good: float, stay_good: float) -> str:
    sentences = scenario.sentences()
    response: list[str] = []
    good = rng.random() < start_good
    for slot in _plan(scenario, rng):
        options = _helpful(slot, sentences[slot], response) if good else _unhelpful(slot, scenario, response, rng)
        response.append(rng.choice(options))
        good = rng.random() < (stay_good if good else 1 - STAY_BAD)
    return " ".join(response)


def _plan(scenario: Scenario, rng: random.Random) -> list[Kind]:
    """The slots a response fills, in order."""
    closing = [Kind.CLOSING] * (rng.random() < 0.6)
    if not isinstance(scenario, TaskScenario):
        return [Kind.REFUSAL, Kind.EXPLANATION, Kind.ALTERNATIVE, *closing]
    caution = [Kind.CAUTION] * (rng.random() < 0.5)
    return [Kind.OPENING, Kind.CONSTRAINT, *[Kind.STEP] * rng.randint(2, 4), *caution, *closing]


def _helpful(slot: Kind, sentences: tuple[str, ...], response: list[str]) -> tuple[str, ...]:
    """The sentences that serve a slot; of the steps only the first one still missing."""
    if slot is not Kind.STEP:
        return sentences
    return tuple(step for step in sentences if step not in response)[:1]


def _unhelpful(slot: Kind, scenario: Scenario, response: list[str], rng: random.Random) -> tuple[str, ...]:
    """The sentences of one bad kind; in place of a step now and then a step too early or given before."""
    sentences = scenario.sentences()
    if slot is Kind.STEP and rng.random() < MISPLACED_STEP_FRACTION:
        expected = _helpful(slot, sentences[slot], response)
        return tuple(step for step in sentences[slot] if step not in expected)
    weights = _BAD_TASK_WEIGHTS if isinstance(scenario, TaskScenario) else _BAD_HARMFUL_WEIGHTS
    return sentences[rng.choices(tuple(weights), tuple(weights.values()))[0]]
