"""From embeddings to answers: fit a classifier to labels, judge it, and find its classes in recordings."""
