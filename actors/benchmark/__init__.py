"""The benchmark: contenders that decode the same forced segments, side by side."""
