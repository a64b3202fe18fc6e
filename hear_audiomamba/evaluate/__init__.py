"""The HEAR evaluation: embeddings, predictions, scores, aggregation and leaderboard."""
