"""Augmented data sets: requests, filters, generated cases, layouts."""
