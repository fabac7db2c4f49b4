"""Which version an alias points at."""

import pytest

from medgan.core.errors import ConfigError, EnvironmentFailure
from medgan.tracking.client import connect, sqlite_uri
from medgan.tracking.versions import follows_alias, version_behind


def test_an_alias_is_followed_from_version_to_version(database):
    uri = sqlite_uri(database)
    client = connect(uri)
    client.create_registered_model("brain")
    for version in ("1", "2"):
        client.create_model_version("brain", "file:///nowhere")
        client.set_registered_model_alias("brain", "challenger", version)
        assert version_behind("models:/brain@challenger", uri) == f"models:/brain/{version}"
    for missing in ("models:/brain@best", "models:/head@champion"):
        with pytest.raises(EnvironmentFailure, match=r"E_TRACKING .* not found in the store"):
            version_behind(missing, uri)


def test_only_an_alias_is_followed(tmp_path):
    assert follows_alias("models:/brain@champion")
    for other in ("models:/brain/3", "runs:/0a/model", "folder", "models:/a@b@c"):
        assert not follows_alias(other)
        with pytest.raises(ConfigError, match="E_USAGE"):
            version_behind(other)
    with pytest.raises(EnvironmentFailure, match="no tracking store"):
        version_behind("models:/brain@champion", sqlite_uri(tmp_path / "none.db"))
