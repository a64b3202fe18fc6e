"""Leaderboards: rows, tables, pictures and a page from results."""
