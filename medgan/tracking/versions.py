"""Which version of a registered model an alias points at."""

import re

from medgan.core.errors import ConfigError
from medgan.tracking.client import connect, reading_uri, store_exists
from medgan.tracking.failures import failure, mlflow_failures

_ALIAS = re.compile(r"models:/([^@]+?)@([^@/]+)")


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
        EnvironmentFailure: E_TRACKING when MLflow is out of reach or has no such alias.
    """
    found = _ALIAS.fullmatch(model_uri)
    if found is None:
        raise ConfigError("E_USAGE", model_uri, "names no alias", "give models:/name@alias")
    uri = tracking_uri or reading_uri()
    if not uri or not store_exists(uri):
        raise failure(
            "no tracking store here", "name one with --set tracking.uri=sqlite:///path/mlflow.db",
            model_uri,
        )  # fmt: skip
    from mlflow.exceptions import MlflowException

    client = connect(uri)
    with mlflow_failures():
        try:
            version = client.get_model_version_by_alias(*found.groups()).version
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise failure(
                "not found in the store", "check the name, the alias and tracking.uri", model_uri
            ) from None
    return f"models:/{found[1]}/{version}"
