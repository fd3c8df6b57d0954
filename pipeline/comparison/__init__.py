"""Contenders side by side: what they gave, what it cost, and a report that a user can decide from."""
