"""What the section of every strategy has; its knobs stand in the strategy's own file."""

from pipeline.section import Section


class StrategySection(Section):
    """A strategy's knobs, told apart by `name`."""

    name: str
    segment_size: int

    @property
    def num_lanes(self) -> int:
        """Streams of proposals that one row holds at once; each takes a slot."""
        return 1

    @property
    def max_draws(self) -> int:
        """Most times that a token of the response is drawn: what a row may cost, beside its length. Every strategy says
        it, because the server's limits rest on it."""
        raise NotImplementedError(type(self).__name__)
