"""A training run: built, driven, checked and kept."""
