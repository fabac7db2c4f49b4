"""How synthetic scans compare with real ones: tensors in, figures out."""
