import pytest

from medgan.core.errors import ModelError
from medgan.deployment.packages.packaged import opened
from medgan.tracking.client import connect, sqlite_uri
from medgan.tracking.mlflow import MlflowRun
from medgan.tracking.registry import register

pytestmark = pytest.mark.slow  # MLflow makes a store in seconds


def test_the_register_says_what_a_version_is_but_not_where(packaged, tmp_path):
    uri = sqlite_uri(tmp_path / "mlflow.db")
    tags = {"data_licence": "CC0", "note": "/home/somebody", "mlflow.user": "somebody"}
    with MlflowRun(uri, "x", tmp_path) as run:
        register(run.mlflow_model(packaged.folder), uri, "brain", "challenger", tags)
    with opened("models:/brain@challenger", uri) as found:
        assert found.model.digest == packaged.model.digest
        assert found.files == packaged.files
        assert (found.version["name"], found.version["version"]) == ("brain", "1")
        assert found.version["aliases"] == ["challenger"]
        assert found.version["tags"]["data_licence"] == "CC0"
        assert "somebody" not in str(found.version)
        assert found.promotions == []
    connect(uri).set_registered_model_alias("brain", "champion", "1")
    with pytest.raises(ModelError, match="E_GATE"), opened("models:/brain@champion", uri):
        pass
