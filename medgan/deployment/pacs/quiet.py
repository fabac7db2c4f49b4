"""Silence of the libraries that talk to peers: what they say quotes headers and UIDs."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def quiet_peers() -> Iterator[None]:
    """Silences their messages, and the text of an exception that ends one of their threads."""
    loggers = [
        logging.getLogger(name) for name in ("pynetdicom", "dicomweb_client", "retrying", "urllib3")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    usual, threading.excepthook = threading.excepthook, _say_thread
    try:
        yield
    finally:
        threading.excepthook = usual
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _say_thread(ended: threading.ExceptHookArgs) -> None:
    """The end of a thread, such as that of a connection that broke off, without its text."""
    kind = ended.exc_type.__name__
    log.debug("a thread ended (%s)", kind, exc_info=ended.exc_value)
