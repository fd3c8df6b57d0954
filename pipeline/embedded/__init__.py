"""The embedded default: a small text world with its prompts, gold judge and shipped models."""
