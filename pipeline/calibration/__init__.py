"""From rollouts to knobs: what `reward_threshold` and `beta` reach a wanted cost. Pure numpy."""
