"""Many prompts in flight over shared models."""
