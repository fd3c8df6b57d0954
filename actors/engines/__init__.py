"""Engines: the slot-cache engine on transformers, and fakes of a fixed cost."""
