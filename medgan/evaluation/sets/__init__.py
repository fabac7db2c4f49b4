"""Metrics of sets of scans: fidelity, diversity, similarity, distances."""
