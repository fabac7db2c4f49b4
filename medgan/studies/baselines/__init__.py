"""Generators from the literature, to compare with: one way to train, one way to sample."""
