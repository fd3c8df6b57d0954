"""Where actors run: GPUs, placement, loading, the Ray session."""
