"""A fault campaign against the main job on a local cluster of several nodes."""
