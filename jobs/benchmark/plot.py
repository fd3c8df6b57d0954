"""The benchmark as a picture: accepted tokens/s with their range, and tokens pushed per accepted token."""

from pathlib import Path

from jobs.benchmark.results import BenchmarkReport, ContenderReport

POLICY, REWARD, OURS, OTHERS = "#4c72b0", "#dd8452", "#2a7f62", "#8c8c8c"
OWN_NAMES = ("pipeline", "policy_part", "plain")


def draw_report(report: BenchmarkReport, path: Path) -> None:
    """Write the picture as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    contenders = [contender for contender in report.contenders if contender.rounds][::-1]
    figure, (speed, pushed) = pyplot.subplots(1, 2, figsize=(13, 1.5 + 0.5 * len(contenders)), sharey=True)
    _draw_speed(speed, contenders)
    _draw_pushed(pushed, contenders)
    config = report.config
    figure.suptitle(f"{config.policy.model or config.size} {config.dtype}, acceptance {config.acceptance:g}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_speed(axes, contenders: list[ContenderReport]) -> None:  # noqa: ANN001
    spreads = [contender.accepted_tokens_per_s for contender in contenders]
    medians = [spread.median for spread in spreads if spread]
    whiskers = [[s.median - s.min for s in spreads if s], [s.max - s.median for s in spreads if s]]
    colours = [OURS if contender.name.startswith(OWN_NAMES) else OTHERS for contender in contenders]
    bars = axes.barh([contender.name for contender in contenders], medians, xerr=whiskers, color=colours, capsize=3)
    axes.bar_label(bars, labels=[f" {median:,.0f}" for median in medians], padding=4)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("accepted tokens/s: median, min and max of the rounds (log scale)")


def _draw_pushed(axes, contenders: list[ContenderReport]) -> None:  # noqa: ANN001
    for place, contender in enumerate(contenders):
        policy = contender.median(lambda m: m.policy.num_tokens / m.num_accepted_tokens)
        reward = contender.median(lambda m: m.reward.num_tokens / m.num_accepted_tokens if m.reward else None)
        ideal = contender.median(lambda m: m.policy_ideal_tokens / m.num_accepted_tokens)
        axes.barh(place + 0.2, policy, height=0.38, color=POLICY, label="policy" if place == 0 else None)
        axes.barh(place - 0.2, reward or 0, height=0.38, color=REWARD, label="reward model" if place == 0 else None)
        axes.plot([ideal, ideal], [place - 0.4, place + 0.4], color="black", label="ideal" if place == 0 else None)
    axes.set_xscale("log")
    axes.set_xlabel("tokens pushed per accepted token (log scale)")
    axes.legend(loc="lower right")
