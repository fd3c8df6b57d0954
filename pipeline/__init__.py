"""What alignment is: records, config, draws, acceptance, strategies, and the dataset graph."""
