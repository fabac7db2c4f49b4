"""Metrics of copies, membership and nearest neighbours."""
