"""Which signals ask a command to stop, so that it can be gone on with later."""

import signal

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)
"""SIGTERM, Ctrl-C, and what batch systems send before the time of a job is over; Windows has no
SIGUSR1."""
