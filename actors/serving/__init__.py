"""The pipeline behind an OpenAI-compatible endpoint, on Ray Serve."""
