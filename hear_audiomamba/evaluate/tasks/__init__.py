"""HEAR tasks: which there are, getting them, checking them, resampling them, and two tiny ones that ship."""
