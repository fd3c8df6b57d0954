"""How forwards are rounded up to shapes that a device likes.

On a CPU the shapes of feeds (prompts, accepted and scored tokens) are those in which attention gives a row the same
bits whatever else is computed beside it (fp32, one thread, packed linear layers): measured on torch 2.13, MKL splits a
sum over more than 256 columns by their number, and one over fewer in the same way for every multiple of 16. Decode
steps are not held to that; they read what they need. On a GPU there are few shapes, since each is captured.
"""

from dataclasses import dataclass

MIN_ROWS = 4  # matrix kernels round one to three rows differently; feeds have a multiple of so many tokens


@dataclass(frozen=True, slots=True)
class Shapes:
    """The rounding rules of a device.

    Args:
        width_multiple: a decode step has a multiple of so many rows, fillers among them, and starts at one.
        step_multiple: a decode step reads a multiple of so many columns.
        feed_multiples: a feed reads a multiple of the first number of columns, up to the second; of the second beyond.
        chunk_tokens: most tokens of one row in one feed.
        forward_tokens: most tokens of one forward of several rows, so that its activations stay small.
    """

    width_multiple: int
    step_multiple: int
    feed_multiples: tuple[int, int]
    chunk_tokens: int
    forward_tokens: int

    def width(self, num_rows: int) -> int:
        """Rows of a decode step for `num_rows` active ones."""
        return max(MIN_ROWS, rounded_up(num_rows, self.width_multiple))

    def step_length(self, length: int) -> int:
        """Columns a decode step reads for `length` valid ones."""
        return rounded_up(length, self.step_multiple)

    def feed_length(self, length: int) -> int:
        """Columns a feed reads for `length` valid ones."""
        fine, coarse = self.feed_multiples
        return rounded_up(length, fine if length <= coarse else coarse)


def rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


SHAPES = {"cpu": Shapes(1, 16, (16, 256), 256, 2048), "cuda": Shapes(16, 256, (256, 256), 2**30, 16384)}
