"""The pictures of a comparison, as PNG bytes. Every family has a colour, the same in all pictures."""

import io
from collections.abc import Callable, Mapping
from typing import Any

from jobs.compare.figures.evidence import REWARD
from jobs.compare.figures.records import CompareFigures, ContenderFigures, SegmentFigures
from jobs.compare.figures.resampling import Estimate
from jobs.compare.report.verdict import ranking

COLOURS = ("#2a7f62", "#4c72b0", "#dd8452", "#8172b3", "#c44e52", "#937860", "#64b5cd", "#da8bc3")
GREY = "#8c8c8c"
DPI = 110
MIN_SHARE = 0.05
FEW = f"indices that fewer than {MIN_SHARE:.0%} of the responses reach are left out"
Draw = Callable[[Any, CompareFigures], bool]


def draw_pictures(figures: CompareFigures) -> dict[str, tuple[str, bytes]]:
    """File name → (caption, PNG) of every picture there is something for."""
    import matplotlib

    matplotlib.use("Agg")
    judge, drawn = figures.primary_judge, {}
    for file, caption, draw, size in (
        ("pareto.png", f"{judge} against policy tokens per response; up and to the left is better", _pareto, (8, 5)),
        ("win_rates.png", f"Win-rate over {figures.baseline} by {judge}, with 95 % intervals", _win_rates, (8, 0)),
        ("acceptance.png", f"Accepted proposals by segment index; {FEW}", _acceptance, (7, 4)),
        (
            "reward_by_position.png",
            f"Mean reward so far; dotted: the mean threshold; {FEW}",
            _rewards,
            (7, 4),
        ),
        ("reward_and_judge.png", f"{judge} against the reward that steered", _reward_and_judge, (7, 4.5)),
    ):
        png = _drawn(figures, draw, size)
        if png is not None:
            drawn[file] = (caption, png)
    return drawn


def _drawn(figures: CompareFigures, draw: Draw, size: tuple[float, float]) -> bytes | None:
    """The PNG, or None where the picture would be empty."""
    from matplotlib import pyplot

    width, height = size
    figure, axes = pyplot.subplots(figsize=(width, height or 1.2 + 0.4 * len(figures.contenders)))
    try:
        if not draw(axes, figures):
            return None
        axes.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=DPI)
        return stream.getvalue()
    finally:
        pyplot.close(figure)


def _colour(figures: CompareFigures, contender: ContenderFigures) -> str:
    if contender.name == figures.baseline:
        return GREY
    families = list(dict.fromkeys(c.family for c in figures.contenders if c.name != figures.baseline))
    return COLOURS[families.index(contender.family) % len(COLOURS)]


def _error(estimate: Estimate) -> list[list[float]]:
    low, high = (estimate.mean if bound is None else bound for bound in (estimate.low, estimate.high))
    return [[max(0.0, estimate.mean - low)], [max(0.0, high - estimate.mean)]]


def _pareto(axes: Any, figures: CompareFigures) -> bool:
    shown = [(c, c.policy_tokens, c.quality(figures.primary_judge)) for c in figures.contenders]
    points = [(c, tokens, quality) for c, tokens, quality in shown if tokens and quality]
    best = sorted((tokens.mean, quality.mean) for c, tokens, quality in points if c.on_frontier)
    axes.plot([x for x, _ in best], [y for _, y in best], color="black", linewidth=1, alpha=0.5, label="frontier")
    for contender, tokens, quality in points:
        axes.errorbar(
            tokens.mean,
            quality.mean,
            xerr=_error(tokens),
            yerr=_error(quality),
            fmt="D" if contender.on_frontier else "o",
            color=_colour(figures, contender),
            capsize=2,
            zorder=2,
        )
    _token_axis(axes, [tokens.mean for _, tokens, _ in points])
    _label(axes, {contender.name: (tokens.mean, quality.mean) for contender, tokens, quality in points})
    axes.set_xlabel("policy tokens per response, prompt and discarded ones included (log scale)")
    axes.set_ylabel(_quality_label(figures))
    axes.legend(loc="lower right", frameon=False)
    return bool(points)


def _token_axis(axes: Any, values: list[float]) -> None:
    """A log scale with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.margins(x=0.18, y=0.12)
    is_narrow = values and max(values) < 30 * min(values)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if is_narrow else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label(axes: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Names next to their points, moved apart where they would overlap."""
    from adjustText import adjust_text

    if not points:
        return
    texts = [axes.text(x, y, name, fontsize=9) for name, (x, y) in points.items()]
    x, y = zip(*points.values(), strict=True)
    lines = {"arrowstyle": "-", "color": GREY, "linewidth": 0.7}
    adjust_text(texts, list(x), list(y), ax=axes, expand=(1.15, 1.5), iter_lim=500, arrowprops=lines)


def _quality_label(figures: CompareFigures) -> str:
    has_scores = any(c.judges[figures.primary_judge].score for c in figures.contenders)
    return figures.primary_judge if has_scores else f"win-rate over {figures.baseline} by {figures.primary_judge}"


def _win_rates(axes: Any, figures: CompareFigures) -> bool:
    rivals = [c for c in ranking(figures)[::-1] if c.name != figures.baseline]
    shown = [(c, c.judges[figures.primary_judge].win_rate) for c in rivals]
    bars = [(c, win) for c, win in shown if win]
    for contender, win in bars:
        axes.barh(contender.name, win.mean, xerr=_error(win), color=_colour(figures, contender), capsize=3)
        axes.text((win.high or win.mean) + 0.01, contender.name, f"{win.mean:.1%}", va="center", fontsize=9)
    axes.axvline(0.5, color="black", linewidth=1, linestyle=":")
    axes.set_xlim(0, 1.1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    return bool(bars)


def _with_segments(figures: CompareFigures) -> list[tuple[ContenderFigures, str, str]]:
    """Contenders that keep segments, with colour and line style; lines of one family differ in style."""
    styles, looks, seen = ("-", "--", "-.", ":"), [], {}
    for contender in figures.contenders:
        if contender.segments:
            seen[contender.family] = seen.get(contender.family, -1) + 1
            looks.append((contender, _colour(figures, contender), styles[seen[contender.family] % len(styles)]))
    return looks


def _common_segments(contender: ContenderFigures) -> list[SegmentFigures]:
    return [s for s in contender.segments if s.num_segments >= MIN_SHARE * contender.num_responses]


def _acceptance(axes: Any, figures: CompareFigures) -> bool:
    looks = [look for look in _with_segments(figures) if look[0].acceptance_rate]
    for contender, colour, style in looks:
        segments = _common_segments(contender)
        places, rates = [s.index + 1 for s in segments], [s.acceptance_rate for s in segments]
        axes.plot(places, rates, style, marker="o", markersize=4, color=colour, label=contender.name)
    axes.set_xlabel("segment of the response")
    axes.set_ylabel("accepted, of all proposals")
    axes.set_ylim(0, 1.02)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False) if looks else None
    return bool(looks)


def _rewards(axes: Any, figures: CompareFigures) -> bool:
    looks = _with_segments(figures)
    for contender, colour, style in looks:
        known = [s for s in _common_segments(contender) if s.reward is not None]
        axes.plot(
            [s.position_tokens for s in known],
            [s.reward for s in known],
            style,
            marker="o",
            markersize=4,
            color=colour,
            label=contender.name,
        )
        lines = [s for s in known if s.threshold is not None]
        axes.plot([s.position_tokens for s in lines], [s.threshold for s in lines], ":", color=colour, alpha=0.6)
    axes.set_xlabel("response tokens at the segment's end (mean)")
    axes.set_ylabel("reward of prompt + response so far")
    axes.legend(frameon=False) if looks else None
    return bool(looks)


def _reward_and_judge(axes: Any, figures: CompareFigures) -> bool:
    judge = figures.primary_judge
    shown = [(c, c.judges[REWARD].score, c.judges[judge].score) for c in figures.contenders]
    points = [(c, reward, score) for c, reward, score in shown if reward and score and judge != REWARD]
    for contender, reward, score in points:
        axes.errorbar(
            reward.mean, score.mean, xerr=_error(reward), yerr=_error(score), fmt="o", color=_colour(figures, contender)
        )
    axes.margins(x=0.18, y=0.12)
    _label(axes, {contender.name: (reward.mean, score.mean) for contender, reward, score in points})
    axes.set_xlabel("reward that steered")
    axes.set_ylabel(judge)
    return bool(points)
