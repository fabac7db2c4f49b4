"""Decisions on an alias, one at a time: recorded, and the alias moved."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from medgan.core.errors import ConfigError
from medgan.core.files import locked
from medgan.tracking.client import connect, database_file
from medgan.tracking.failures import mlflow_failures
from medgan.tracking.promotions import History, Promotion
from medgan.tracking.versions import history_of

_LOCK = ".promotions.lock"
"""Folder beside a SQLite store."""


@contextmanager
def deciding(uri: str, name: str, alias: str, known: History) -> Iterator[History]:
    """The record as it is now, while nobody else on this machine decides on a SQLite store.

    Args:
        uri: of the tracking store.
        name: of the registered model.
        alias: that is decided on.
        known: the record on which the decision stands.

    Raises:
        ConfigError: E_GATE when the alias was promoted or rolled back since then.
        EnvironmentFailure: E_TRACKING, E_DISK.
    """
    database = database_file(uri)
    lock = nullcontext() if database is None else locked(database.parent / _LOCK, wait=True)
    with lock:
        present = history_of(uri, name)
        if present.decisions(alias) != known.decisions(alias):
            raise meanwhile(name, alias)
        yield present


def record(uri: str, name: str, promotion: Promotion) -> None:
    """Adds a record; of a promotion the alias moves then, of a roll back before.

    Where it is broken off in between, the alias is at a version that is vouched for, and the same
    command can be run again. A server has no lock: of two promotions at once each that finds the
    other withdraws, so that at most one passes.

    Raises:
        ConfigError: E_GATE for a promotion that another one was made beside.
        DataError: E_VALUE for a record that is too long.
        EnvironmentFailure: E_TRACKING when the store does not allow it.
    """
    key, text = promotion.tag
    client = connect(uri, write=True)
    with mlflow_failures():
        if promotion.action == "rolled back":
            client.set_registered_model_alias(name, promotion.alias, promotion.version)
        client.set_registered_model_tag(name, key, text)
        if promotion.action != "promoted":
            return
        history = History.read(client.get_registered_model(name).tags)
        if any(promotion.rivals(other) for other in history.decisions(promotion.alias)):
            client.delete_registered_model_tag(name, key)
            raise meanwhile(name, promotion.alias)
        client.set_registered_model_alias(name, promotion.alias, promotion.version)


def meanwhile(name: str, alias: str) -> ConfigError:
    """The refusal of a decision that another one was made beside."""
    return ConfigError(
        "E_GATE", name, f"another {alias} was promoted meanwhile", "run the same command again"
    )
