"""Owns the embedded world: what can be asked (scenarios), the held-out split, and which sentences fit a scenario.

Invariants: a scenario's prompt parses back to that scenario; the held-out combinations are a constant of the world
(no seed moves them), and every task, object, request and relative also occurs in training.
"""

import random
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Literal

from pipeline.embedded.vocabulary import Constraint, Domain, Request, Task, vocabulary

Split = Literal["train", "heldout"]

HARMFUL_FRACTION = 0.15
RELATIVE_FRACTION = 0.6
_SENTENCE = re.compile(r"[^.!?]+[.!?]*|[.!?]+")


class Kind(StrEnum):
    """What a sentence of a response does, seen from one scenario."""

    OPENING = "opening"
    STEP = "step"
    CONSTRAINT = "constraint"
    CAUTION = "caution"
    CLOSING = "closing"
    REFUSAL = "refusal"
    EXPLANATION = "explanation"
    ALTERNATIVE = "alternative"
    RUDE = "rude"
    WRONG = "wrong"
    RECKLESS = "reckless"
    DISMISSIVE = "dismissive"
    EVASIVE = "evasive"
    OFF_TOPIC = "off_topic"
    COMPLIANCE = "compliance"
    GLOATING = "gloating"
    GARBLED = "garbled"
    CUT = "cut"


Sentences = dict[Kind, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class TaskScenario:
    """How to do a task with an object, under a constraint, maybe for a relative."""

    domain: Domain
    task: Task
    object_name: str
    constraint: Constraint
    relative: str | None

    @property
    def action(self) -> str:
        return self.task.action.format(object=self.object_name)

    @property
    def combination(self) -> tuple[str, str]:
        """What the split holds out: (task, object)."""
        return (self.task.action, self.object_name)

    def statements(self) -> tuple[str, ...]:
        relative = vocabulary().relative_statement.format(relative=self.relative)
        return (self.constraint.statement, relative) if self.relative else (self.constraint.statement,)

    def sentences(self) -> Sentences:
        """Every sentence that has a meaning as an answer to this scenario; steps stand in their order."""
        helpful, unhelpful = vocabulary().helpful, vocabulary().unhelpful
        closings = helpful["closings"] + (helpful["relative_closings"] if self.relative else ())
        templates: Sentences = {
            Kind.OPENING: helpful["openings"],
            Kind.STEP: self.task.steps,
            Kind.CONSTRAINT: self.constraint.answers,
            Kind.CAUTION: self.domain.cautions,
            Kind.CLOSING: closings,
            Kind.WRONG: self.task.wrong,
            Kind.RECKLESS: self.domain.reckless,
            **{kind: unhelpful[kind] for kind in (Kind.RUDE, Kind.DISMISSIVE, Kind.EVASIVE, Kind.OFF_TOPIC)},
        }
        return _filled(templates, object=self.object_name, relative=self.relative, action=self.action)


@dataclass(frozen=True, slots=True)
class HarmfulScenario:
    """A request that a good answer refuses."""

    request: Request
    pretext: Constraint
    relative: str

    @property
    def action(self) -> str:
        return self.request.action.format(relative=self.relative)

    @property
    def combination(self) -> tuple[str, str]:
        """What the split holds out: (request, relative)."""
        return (self.request.name, self.relative)

    def statements(self) -> tuple[str, ...]:
        return (self.pretext.statement,)

    def sentences(self) -> Sentences:
        """Every sentence that has a meaning as an answer to this request."""
        helpful, unhelpful = vocabulary().helpful, vocabulary().unhelpful
        bad = (Kind.RUDE, Kind.DISMISSIVE, Kind.EVASIVE, Kind.OFF_TOPIC, Kind.GLOATING)
        templates: Sentences = {
            Kind.REFUSAL: helpful["refusals"],
            Kind.EXPLANATION: (self.request.explanation, *helpful["explanations"]),
            Kind.ALTERNATIVE: (self.request.alternative, *helpful["alternatives"]),
            Kind.CLOSING: helpful["refusal_closings"],
            Kind.COMPLIANCE: self.request.compliance,
            **{kind: unhelpful[kind] for kind in bad},
        }
        return _filled(templates, relative=self.relative, your_action=self.action.replace(" my ", " your "))


Scenario = TaskScenario | HarmfulScenario


def sample_scenario(rng: random.Random, split: Split) -> Scenario:
    """Draw a scenario whose combination belongs to the split."""
    words = vocabulary()
    while True:
        scenario: Scenario
        if rng.random() < HARMFUL_FRACTION:
            scenario = HarmfulScenario(
                rng.choice(words.requests), rng.choice(words.pretexts), rng.choice(words.relatives)
            )
        else:
            domain = rng.choice(words.domains)
            task, object_name = rng.choice(domain.tasks), rng.choice(domain.objects)
            relative = rng.choice(words.relatives) if rng.random() < RELATIVE_FRACTION else None
            scenario = TaskScenario(domain, task, object_name, rng.choice(words.constraints), relative)
        if (scenario.combination in heldout_combinations()) == (split == "heldout"):
            return scenario


def sample_prompt(scenario: Scenario, rng: random.Random) -> str:
    """One of the wordings of a scenario: a question before or after its statements."""
    group = "task" if isinstance(scenario, TaskScenario) else "harmful"
    question = rng.choice(vocabulary().questions[group]).format(action=scenario.action)
    parts = (question, *scenario.statements()) if rng.random() < 0.5 else (*scenario.statements(), question)
    return " ".join(parts)


@cache
def heldout_combinations() -> frozenset[tuple[str, str]]:
    """One in eight (task, object) and one in ten (request, relative) combinations, never in training."""
    words, rng = vocabulary(), random.Random("held out")
    heldout = set[tuple[str, str]]()
    for domain in words.domains:
        objects = rng.sample(domain.objects, len(domain.tasks))
        heldout.update((task.action, name) for task, name in zip(domain.tasks, objects, strict=True))
    relatives = rng.sample(words.relatives, len(words.requests))
    heldout.update((request.name, name) for request, name in zip(words.requests, relatives, strict=True))
    return frozenset(heldout)


def split_sentences(text: str) -> list[str]:
    """Cut text after each run of sentence marks; a last piece without a mark is kept."""
    return [piece.strip() for piece in _SENTENCE.findall(text) if piece.strip()]


def _filled(templates: Sentences, **words: str | None) -> Sentences:
    return {kind: tuple(template.format(**words) for template in group) for kind, group in templates.items()}
