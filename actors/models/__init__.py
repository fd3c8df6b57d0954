"""The policy and reward actors: plain classes around an engine."""
