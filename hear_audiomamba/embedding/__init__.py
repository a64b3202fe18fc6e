"""From a batch of clips to embeddings: windows, rows, pooling, times, streams, tags."""
