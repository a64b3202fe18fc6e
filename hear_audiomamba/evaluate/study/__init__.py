"""A study: cells of model, task and seed, their records and their results."""
