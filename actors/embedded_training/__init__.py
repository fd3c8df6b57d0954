"""Trains the embedded default from the text world: tokenizer, policy, reward model."""
