"""The reference of every config key, written from the config tree."""
