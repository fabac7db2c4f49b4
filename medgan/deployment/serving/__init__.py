"""`medgan serve`: scores and synthetic scans over HTTP, one model, one queue."""
