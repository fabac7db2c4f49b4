"""Metrics: arrays and tensors in, numbers out."""
