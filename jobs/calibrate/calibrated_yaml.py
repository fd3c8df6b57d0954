"""The YAML that a calibration writes, and what it measured as lines for the terminal and the head of that YAML."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import yaml

from jobs.calibrate.rollouts import Rollouts
from jobs.calibrate.search_variable import Knobs, formatted
from jobs.calibrate.simulated_outcome import Outcome
from jobs.calibrate.solving import Target
from pipeline.config.align import AlignConfig

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST = 5  # rewards that a row of the table needs


@dataclass(frozen=True, slots=True)
class Probe:
    """One real run with some knobs, and what the simulation predicted for them."""

    knobs: Knobs
    simulated: Outcome
    measured: Outcome


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The result. `predicted` is what the target's figure should be on other prompts."""

    config: AlignConfig
    rollouts: Rollouts
    target: Target
    probes: tuple[Probe, ...]
    predicted: float


def reward_table(rollouts: Rollouts) -> list[str]:
    """The reward's distribution where the n-th segment of a plain rollout ends."""
    lines = ["after token  rollouts    mean    s.d.  " + "  ".join(f"{q:6.0%}" for q in QUANTILES)]
    step = rollouts.step_tokens
    rows = [(0, rollouts.prompt_reward_P)]
    places = rollouts.position_S // step
    rows += [(int(place + 1) * step, rollouts.reward_S[places == place]) for place in np.unique(places)]
    for tokens, rewards in rows:
        if len(rewards) >= FEWEST:
            quantiles = "  ".join(f"{value:6.2f}" for value in np.quantile(rewards, QUANTILES))
            figures = f"{tokens:11d}  {len(rewards):8d}  {rewards.mean():6.2f}  {rewards.std():6.2f}"
            lines.append(f"{figures}  {quantiles}")
    return lines


def probe_lines(probes: Sequence[Probe]) -> list[str]:
    """One line for each real run."""
    return [
        f"{formatted(probe.knobs)}: simulated {_figures(probe.simulated)}; measured {_figures(probe.measured)}"
        for probe in probes
    ]


def document(calibrated: Calibrated, source: str) -> str:
    """The YAML that `jobs.align` takes, with the measurements as comments above. `source` names the prompts."""
    rollouts, target = calibrated.rollouts, calibrated.target
    head = [
        f"Calibrated by jobs.calibrate for {target.name} = {target.value:g}; expected: {calibrated.predicted:.4g}.",
        f"Measured on {len(rollouts.prompt_reward_P)} prompts of {source}.",
        "The reward of plain rollouts, after so many response tokens (0: the prompt alone):",
        *(f"  {line}" for line in reward_table(rollouts)),
        "Real runs on the same prompts:",
        *(f"  {line}" for line in probe_lines(calibrated.probes)),
    ]
    tree = calibrated.config.model_dump(mode="json", exclude_unset=True)
    tree["strategy"] = calibrated.config.strategy.model_dump(mode="json")
    body = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return "".join(f"# {line}\n" for line in head) + body


def _figures(outcome: Outcome) -> str:
    return (
        f"{outcome.policy_tokens:.1f} policy tokens, acceptance {outcome.acceptance_rate:.1%}, "
        f"reward {outcome.reward:.2f}"
    )
