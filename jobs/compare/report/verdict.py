"""The first lines of the report: what to use, in words, and what to distrust."""

from jobs.compare.figures.evidence import REWARD
from jobs.compare.figures.records import CompareFigures, ContenderFigures, EqualCompute
from jobs.compare.report.formatting import mean_of, percent, with_interval

MANY_HACKED = 0.1


def verdict(figures: CompareFigures) -> list[str]:
    """Sentences, the most important first."""
    judge = figures.primary_judge
    ranked = [c for c in ranking(figures) if c.quality(judge) is not None and c.policy_tokens is not None]
    unjudged = [c.name for c in figures.contenders if c not in ranked]
    if len(ranked) < 2 and unjudged:
        return [f"**No verdict**: {judge} judged no response of {', '.join(unjudged)}."]
    best = ranked[0]
    equals = [c for c in ranked[1:] if _is_equal(figures, c)]
    cheapest = min([best, *equals], key=lambda c: c.policy_tokens.mean if c.policy_tokens else 0.0)
    sentences = [_best_sentence(figures, best), _noise_sentence(best, equals, cheapest)]
    pick = cheapest
    sentences += [_reading(reading, judge) for reading in figures.equal_compute if reading.contender == pick.name]
    if unjudged:
        sentences.append(f"**Not judged** and left out of this verdict: {', '.join(unjudged)}.")
    return [*sentences, *_warnings(figures, pick)]


def ranking(figures: CompareFigures) -> list[ContenderFigures]:
    """Best quality first; without one, last."""
    qualities = {c.name: c.quality(figures.primary_judge) for c in figures.contenders}
    return sorted(figures.contenders, key=lambda c: -(q.mean if (q := qualities[c.name]) else float("-inf")))


def _is_equal(figures: CompareFigures, contender: ContenderFigures) -> bool:
    """Whether the interval of its distance to the best one holds 0."""
    behind = contender.behind_best
    return behind is not None and (behind.low is None or behind.low <= 0)


def _best_sentence(figures: CompareFigures, best: ContenderFigures) -> str:
    judge, baseline = figures.primary_judge, figures.contender(figures.baseline)
    own = best.judges[judge]
    score = f" ({judge} {with_interval(own.score)})" if own.score else ""
    if best.name == baseline.name:
        return f"**Use {best.name}**: no contender is judged better than this baseline{score} by {judge}."
    cost = ""
    if best.policy_tokens and baseline.policy_tokens:
        ratio = best.policy_tokens.mean / baseline.policy_tokens.mean
        cost = (
            f", for {ratio:.1f} × its policy tokens ({mean_of(best.policy_tokens)} against "
            f"{mean_of(baseline.policy_tokens)} per response)"
        )
    return (
        f"**{best.name} answers best**{score}: it beats {baseline.name} in {percent(own.win_rate)} of pairs by "
        f"{judge}{cost}."
    )


def _noise_sentence(best: ContenderFigures, equals: list[ContenderFigures], cheapest: ContenderFigures) -> str:
    if not equals:
        return "Every other contender is worse by more than the noise of these prompts."
    names = ", ".join(c.name for c in equals)
    equal = f"These prompts show no difference between it and {names}."
    if cheapest is best:
        return f"{equal} All of them cost more policy tokens, so **{best.name}** is the one to use."
    return f"{equal} The cheapest of them is **{cheapest.name}** ({mean_of(cheapest.policy_tokens)} policy tokens)."


def _reading(reading: EqualCompute, judge: str) -> str:
    rival = " and ".join(reading.rival)
    rivals = f"a mix of {rival}" if len(reading.rival) > 1 else rival
    at = "which costs less" if reading.rival_is_cheaper else "at equal policy tokens"
    return f"Against {reading.family}: {reading.contender} gains {_signed(reading)} {judge} over {rivals}, {at}."


def _signed(reading: EqualCompute) -> str:
    return with_interval(reading.gain, "+.2f")


def _warnings(figures: CompareFigures, pick: ContenderFigures) -> list[str]:
    judge, warnings = figures.primary_judge, []
    if judge == REWARD:
        warnings.append(
            "**Careful**: no judge was given, so this verdict uses the same reward that the strategies steer by; "
            "reward hacking would look like success. Add `judges`."
        )
    elif pick.hacked_fraction is not None and pick.name != figures.baseline:
        word = "**Careful, reward hacking**" if pick.hacked_fraction > MANY_HACKED else "Reward hacking"
        warnings.append(
            f"{word}: in {pick.hacked_fraction:.1%} of {pick.name}'s pairs the reward model prefers it and {judge} "
            f"prefers {figures.baseline}."
        )
    num_errors = sum(c.num_error_rows for c in figures.contenders)
    if num_errors:
        warnings.append(f"**{num_errors:,} error rows** are left out of every figure; see below.")
    return warnings
