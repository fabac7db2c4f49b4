"""Work on many scans: scores, synthetic scans, augmented data sets, exports."""
