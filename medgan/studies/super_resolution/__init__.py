"""Super-resolution of held-out scans against the fine scans, beside interpolation."""
