"""Models by name: the registry, weights files, checkpoints of other authors."""
