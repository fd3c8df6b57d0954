"""A run over a dataset, from plan to finished directory."""
