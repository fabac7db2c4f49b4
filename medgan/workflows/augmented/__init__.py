"""Training sets of real and synthetic scans: what is asked for, what passes, how it is laid out."""
