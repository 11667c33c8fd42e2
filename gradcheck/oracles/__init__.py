"""Oracles: an answer together with its own uncertainty."""
