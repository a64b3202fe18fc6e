"""Archives of recordings to embeddings on disk, and back from there: engine, streams, search, maps."""
