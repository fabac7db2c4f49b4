"""Versions of registered models: found, listed, vouched for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medgan.core.errors import ConfigError, ModelError
from medgan.tracking.client import connect, reading_uri, store_exists
from medgan.tracking.failures import failure, mlflow_failures
from medgan.tracking.names import check_names
from medgan.tracking.promotions import CHAMPION, History

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CONTENT = "content_sha256"
"""Tag of a version: SHA-256 of its `config.json`, which holds the hashes of its other files."""

_ALIAS = re.compile(r"models:/([^@]+?)@([^@/]+)")


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: of the registered model.
        number: of the version.
        aliases: that point at it.
        tags: its facts.
        created: milliseconds since 1970.
        source: where its files are.
    """

    name: str
    number: str
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    created: int = 0
    source: str = ""

    @property
    def uri(self) -> str:
        """Its address."""
        return f"models:/{self.name}/{self.number}"

    @property
    def content(self) -> str:
        """SHA-256 of the `config.json` that was registered; empty of an old version."""
        return self.tags.get(CONTENT, "")


@dataclass(frozen=True)
class Registered:
    """A registered model.

    Attributes:
        name: of it.
        versions: the newest first.
        history: of its promotions.
    """

    name: str
    versions: tuple[Version, ...]
    history: History


def find_version(uri: str, name: str, version: str = "", alias: str = "") -> Version:
    """The version with a number, else with an alias, else the newest.

    Args:
        uri: of the tracking store.
        name: of the registered model.
        version: its number; empty for another choice.
        alias: that points at it; empty for the newest.

    Raises:
        ConfigError: E_VALUE when `name` is none.
        EnvironmentFailure: E_TRACKING when there is no such version, or no answer.
    """
    check_names(name=name)
    from mlflow.exceptions import MlflowException

    client, wanted = reader(uri, name), f"@{alias}" if alias else f"/{version or 1}"
    with mlflow_failures():
        try:
            if version:
                found = client.get_model_version(name, version)
            elif alias:
                found = client.get_model_version_by_alias(name, alias)
            else:
                numbers = [int(v.version) for v in client.search_model_versions(_of(name))]
                found = client.get_model_version(name, str(max(numbers, default=1)))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise failure(
                "not found in the store", "see medgan models for what there is",
                f"models:/{name}{wanted}",
            ) from None  # fmt: skip
        return _version(found, client.get_registered_model(name))


def follows_alias(model_uri: str) -> bool:
    """Whether a model's URI is `models:/name@alias`, which may point elsewhere tomorrow."""
    return _ALIAS.fullmatch(model_uri) is not None


def version_behind(model_uri: str, tracking_uri: str = "") -> str:
    """The URI of the version that an alias points at now, such as `models:/brain/4`.

    Args:
        model_uri: `models:/name@alias`.
        tracking_uri: of the store; empty takes `reading_uri()`.

    Raises:
        ConfigError: E_USAGE when `model_uri` has another form.
        ModelError: E_GATE, E_TAMPERED for a champion that the gate has not promoted.
        EnvironmentFailure: E_TRACKING when MLflow is out of reach or has no such alias.
    """
    found = _ALIAS.fullmatch(model_uri)
    if found is None:
        raise ConfigError("E_USAGE", model_uri, "names no alias", "give models:/name@alias")
    uri = tracking_uri or reading_uri()
    version = find_version(uri, found[1], alias=found[2])
    require_vouched(version, found[2], version.content, history_of(uri, version.name))
    return version.uri


def registered_models(uri: str, name: str = "") -> list[Registered]:
    """All registered models, or the one of a name.

    Raises:
        EnvironmentFailure: E_TRACKING.
    """
    client = reader(uri, "the register")
    with mlflow_failures():
        models = [one for page in _pages(client, name) for one in page]
        found = []
        for model in models:
            versions = [_version(v, model) for v in _versions(client, model.name)]
            versions.sort(key=lambda one: -int(one.number))
            found.append(Registered(model.name, tuple(versions), History.read(model.tags)))
    if name and not found:
        raise failure("not registered", "see medgan models for what there is", name)
    return found


def history_of(uri: str, name: str) -> History:
    """The record of promotions of a registered model.

    Raises:
        EnvironmentFailure: E_TRACKING.
    """
    client = reader(uri, name)
    with mlflow_failures():
        return History.read(client.get_registered_model(name).tags)


def require_vouched(version: Version, alias: str, content: str, history: History) -> None:
    """Refuses files that are not those registered, and a champion that nobody promoted.

    Args:
        version: that the files are of.
        alias: by which it was asked for; empty for its number.
        content: SHA-256 of the `config.json` found.
        history: of the registered model.

    Raises:
        ModelError: E_TAMPERED, E_GATE.
    """
    address = f"models:/{version.name}@{alias}" if alias else version.uri
    if version.content and version.content != content:
        raise ModelError(
            "E_TAMPERED", address, "its files are not those that were registered",
            "restore the artifacts of the store from a backup, or register the model again",
        )  # fmt: skip
    if alias == CHAMPION and not history.vouches_for(alias, version.number, content):
        known = any(one.version == version.number for one in history.holders(alias))
        if known:
            raise ModelError(
                "E_TAMPERED", address, "its files are not those that were promoted",
                f"restore the artifacts from a backup, or run medgan promote {version.name} "
                "--rollback",
            )  # fmt: skip
        raise ModelError(
            "E_GATE", address, f"version {version.number} was made champion without the gate",
            f"run medgan promote {version.name} {version.number}, or use {version.uri}",
        )  # fmt: skip


def reader(uri: str, where: str) -> "MlflowClient":
    """A client of a store that exists; reading must not create one.

    Raises:
        EnvironmentFailure: E_TRACKING.
    """
    if not uri or not store_exists(uri):
        raise failure(
            "no tracking store here", "name one with --set tracking.uri=sqlite:///path/mlflow.db",
            where,
        )  # fmt: skip
    return connect(uri)


def _version(found: "ModelVersion", model: "RegisteredModel") -> Version:
    number = str(found.version)
    aliases = sorted(name for name, of in model.aliases.items() if str(of) == number)
    return Version(
        model.name, number, tuple(aliases), dict(found.tags), int(found.creation_timestamp or 0),
        str(found.source),
    )  # fmt: skip


def _pages(client: "MlflowClient", name: str):  # noqa: ANN202 - pages of MLflow's
    """Pages of registered models."""
    token = None
    while True:
        page = client.search_registered_models(_of(name) if name else None, page_token=token)
        yield page
        token = page.token
        if not token:
            return


def _versions(client: "MlflowClient", name: str) -> "list[ModelVersion]":
    found, token = [], None
    while True:
        page = client.search_model_versions(_of(name), page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _of(name: str) -> str:
    return f"name='{name}'"
