"""Metrics of anomaly scores and score maps."""
