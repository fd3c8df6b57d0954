"""Where models live: the policy, the reward model, the coordinator between them, and their placement."""
