"""Many cells on one machine: the real graph and the real coordinators, over fake models on a clock of their own."""
