"""How fast medgan and others do the same work, on the same scans and machine."""
