"""The brain in a scan of a head, by deepbet's networks (MIT, see zoo/deepbet)."""
