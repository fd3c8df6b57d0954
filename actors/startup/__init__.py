"""From a config to loaded models: limits, memory, engine shape."""
