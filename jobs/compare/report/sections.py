"""The report's sections, in the order a reader needs them: verdict, who wins, at what cost, why, and what to doubt."""

from jobs.compare.figures.evidence import REWARD
from jobs.compare.figures.records import CompareFigures, ContenderFigures, EqualCompute
from jobs.compare.report.formatting import NOTHING, fraction, mean_of, percent, with_interval
from jobs.compare.report.markdown import answers, heading, literal, picture, points, table
from jobs.compare.report.verdict import ranking, verdict


def report_markdown(figures: CompareFigures, pictures: dict[str, str]) -> str:
    """The whole report; `pictures` holds the caption of each picture file that was drawn."""
    blocks = [
        heading(f"{len(figures.contenders)} contenders on {figures.num_prompts:,} prompts", 1),
        points(verdict(figures)),
        *_winners(figures),
        *_pictures(pictures, "pareto.png", "win_rates.png"),
        *_equal_compute(figures),
        *_win_matrix(figures),
        *_costs(figures),
        heading("Along the response"),
        *_pictures(pictures, "acceptance.png", "reward_by_position.png"),
        *_disagreements(figures, pictures),
        *_left_out(figures),
        *_method(figures),
    ]
    return "\n\n".join(blocks) + "\n"


def _pictures(pictures: dict[str, str], *files: str) -> list[str]:
    return [picture(file, pictures[file]) for file in files if file in pictures]


def _winners(figures: CompareFigures) -> list[str]:
    names = [*figures.judge_kinds]
    header = ["contender", "policy tokens"]
    for name in names:
        header += [name] if _has_scores(figures, name) else []
        header += [f"win-rate by {name}"]
    rows = [
        [_named(c), mean_of(c.policy_tokens), *(cell for name in names for cell in _judge_cells(figures, c, name))]
        for c in ranking(figures)
    ]
    text = (
        f"Best first by {figures.primary_judge}. Means over prompts with 95 % intervals; win-rates are against "
        f"{figures.baseline}, a tie counts half; ◆ marks the frontier: nobody is both cheaper and better."
    )
    return [heading("Who wins"), table(header, rows), text]


def _judge_cells(figures: CompareFigures, contender: ContenderFigures, name: str) -> list[str]:
    judge = contender.judges[name]
    win = NOTHING if contender.name == figures.baseline else percent(judge.win_rate)
    return [with_interval(judge.score), win] if _has_scores(figures, name) else [win]


def _has_scores(figures: CompareFigures, judge: str) -> bool:
    return any(c.judges[judge].score for c in figures.contenders)


def _named(contender: ContenderFigures) -> str:
    return f"{contender.name} ◆" if contender.on_frontier else contender.name


def _equal_compute(figures: CompareFigures) -> list[str]:
    if not figures.equal_compute:
        return []
    rows = [
        [r.contender, r.family, _rival(r), with_interval(r.gain, "+.2f"), "cheaper" if r.rival_is_cheaper else "equal"]
        for r in figures.equal_compute
    ]
    text = (
        f"{figures.primary_judge} of the contender minus that of the best its rivals reach at the same policy tokens. "
        "A share p of one run and 1 − p of another, chosen by a coin per prompt, reaches exactly the point between "
        f"them, so you could run it; {figures.baseline} may be mixed into every family. Cheaper: no "
        "run of the family costs as much, so its best run is the rival."
    )
    header = ["contender", "against", "rival at this cost", f"gain in {figures.primary_judge}", "rival's cost"]
    return [heading("At equal compute"), table(header, rows), text]


def _rival(reading: EqualCompute) -> str:
    if len(reading.rival) == 1:
        return reading.rival[0]
    first, second = reading.rival
    return f"{reading.rival_share:.0%} {first}, {1 - reading.rival_share:.0%} {second}"


def _win_matrix(figures: CompareFigures) -> list[str]:
    if figures.win_matrix is None or len(figures.contenders) < 3:
        return []
    names = [c.name for c in ranking(figures)]
    rows = [[ours, *(fraction(figures.win_matrix[ours].get(theirs)) for theirs in names)] for ours in names]
    text = f"Win-rate of the row over the column by {figures.primary_judge}; a tie counts half."
    return [heading("Everyone against everyone"), table(["", *names], rows), text]


def _costs(figures: CompareFigures) -> list[str]:
    header = ["contender", "policy tokens", "reward tokens", "policy calls", "reward calls", "response tokens"]
    header += ["ended by itself", "acceptance", "fallback"]
    rows = [
        [
            c.name,
            with_interval(c.policy_tokens, ".0f"),
            with_interval(c.reward_tokens, ".0f"),
            mean_of(c.policy_calls, ".1f"),
            mean_of(c.reward_calls, ".1f"),
            with_interval(c.response_tokens, ".1f"),
            fraction(c.stopped_fraction),
            fraction(c.acceptance_rate),
            fraction(c.fallback_fraction),
        ]
        for c in figures.contenders
    ]
    text = (
        "Per response. Tokens are those pushed through a model, prompt and discarded ones included. Acceptance is "
        "of proposed segments, fallback of kept ones; strategies that judge no segments have neither."
    )
    return [heading("What it costs"), table(header, rows), text]


def _disagreements(figures: CompareFigures, pictures: dict[str, str]) -> list[str]:
    judge = figures.primary_judge
    if judge == REWARD:
        return []
    rows = [
        [
            c.name,
            with_interval(c.judges[REWARD].difference, "+.2f"),
            with_interval(c.judges[judge].difference, "+.2f"),
            NOTHING if c.reward_judge_correlation is None else f"{c.reward_judge_correlation:.2f}",
            fraction(c.hacked_fraction),
        ]
        for c in figures.contenders
    ]
    header = ["contender", "reward gained", f"{judge} gained", "rank correlation", "reward up, judge down"]
    text = (
        f"Gains are over {figures.baseline}. The correlation is Spearman's, of reward and {judge} over a contender's "
        "responses: it falls as a strategy exploits the reward model. The last column counts pairs in which the reward "
        f"model prefers the contender and {judge} prefers {figures.baseline}; those whose reward rose most are shown."
    )
    blocks: list[str] = [heading("Does the reward model mislead?"), table(header, rows), text]
    blocks += _pictures(pictures, "reward_and_judge.png")
    for found in figures.disagreements:
        ours = f"{found.contender}: {_marks(judge, found.reward, found.score)}"
        theirs = f"{figures.baseline}: {_marks(judge, found.baseline_reward, found.baseline_score)}"
        blocks.append(answers(found.prompt, [(ours, found.response), (theirs, found.baseline_response)]))
    return blocks


def _marks(judge: str, reward: float, score: float | None) -> str:
    return f"reward {reward:.2f}" + ("" if score is None else f", {judge} {score:.2f}")


def _left_out(figures: CompareFigures) -> list[str]:
    items = []
    for c in figures.contenders:
        if c.num_error_rows:
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in c.error_rows_by_type.items())
            items.append(f"{c.name}: {c.num_error_rows:,} error rows ({kinds}), {c.num_responses:,} responses")
        for name, judge in c.judges.items():
            if judge.num_unjudged:
                items.append(f"{c.name}: {judge.num_unjudged:,} without a verdict by {name}")
    return [heading("What is left out"), points(items or ["Nothing: every row has a response and every verdict."])]


def _method(figures: CompareFigures) -> list[str]:
    judges = ", ".join(f"{name} ({kind})" for name, kind in figures.judge_kinds.items())
    shared = [c.name for c in figures.contenders if c.shares_draws_with_baseline]
    items = [
        f"{figures.num_prompts:,} prompts; seeds: "
        + "; ".join(f"{c.name} {', '.join(map(str, c.seeds))}" for c in figures.contenders),
        f"Intervals: percentile bootstrap over prompts, {figures.bootstrap_draws:,} draws, seed "
        f"{figures.bootstrap_seed}; the same resamples for all contenders, so differences are paired. Seeds are "
        "averaged within a prompt first.",
        "Win-rates compare a response with one of another seed"
        + (f", but for {', '.join(shared)}: with one seed the draws are shared with the baseline." if shared else "."),
        f"Judges: {judges}. By seed: " + "; ".join(f"{c.name} {_by_seed(c, figures)}" for c in figures.contenders),
        *(f"{c.name}: {_knobs(c)}; policy {literal(c.policy)}" for c in figures.contenders),
    ]
    return [heading("How it was counted"), points(items)]


def _by_seed(contender: ContenderFigures, figures: CompareFigures) -> str:
    values = contender.judges[figures.primary_judge].by_seed
    return ", ".join(NOTHING if value is None else f"{value:.2f}" for value in values)


def _knobs(contender: ContenderFigures) -> str:
    return ", ".join(f"{key} {literal(str(value))}" for key, value in contender.strategy.items())
