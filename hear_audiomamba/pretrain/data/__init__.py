"""Training data: clips, order, masks, targets and their statistics."""
