"""A comparison's runs and judges, executed."""
