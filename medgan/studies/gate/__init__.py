"""The gate: is a registered model good enough, and no worse than the champion?"""
