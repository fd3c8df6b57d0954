"""The config tree: sections, and loading one from YAML and the command line."""
