"""Requests to stop that come while a training runs."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from medgan.core.stop_signals import STOP_SIGNALS


@dataclass
class StopRequest:
    """Becomes true once the process was asked to stop."""

    signals: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.signals)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """The signals to stop only take note; the loop stops after the step."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    old = {n: signal.signal(n, lambda s, _: request.signals.append(s)) for n in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
