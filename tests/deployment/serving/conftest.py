"""A tiny model, calibrated, in a server inside the test."""

import contextlib

import numpy as np
import pytest
from starlette.testclient import TestClient

from medgan.anomaly.calibration import ScoringConfig
from medgan.core.config import ScoreConfig, ServeConfig
from medgan.core.volume import Volume
from medgan.deployment.followed_model import FollowedModel
from medgan.deployment.serving.application import application
from medgan.deployment.serving.places import Root
from medgan.deployment.serving.scratch import Scratch
from medgan.deployment.serving.service import Service
from medgan.deployment.serving.tokens import Tokens
from tests.kit.models import make_conditioned

AFFINE = np.diag([2.0, -2.0, 3.0, 1.0])
HERE = "http://127.0.0.1:8080"


@pytest.fixture(scope="session")
def scans():
    rng = np.random.default_rng(0)
    ramp = np.linspace(100, 900, 18)[:, None, None]
    return [(ramp + 60 * rng.random((18, 17, 12))).astype(np.float32) for _ in range(6)]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, scans):
    """A model by age and sex that scores and draws."""
    folder = tmp_path_factory.mktemp("served") / "model"
    model = make_conditioned()
    model.learn_densities(lambda: [model.channels(model.draw(0, n))[None, :1] for n in range(4)])
    model.calibrate([Volume(scan, AFFINE) for scan in scans], ScoringConfig(("density",)))
    model.save(folder)
    return folder


@pytest.fixture(scope="session")
def root(tmp_path_factory, scans):
    """The served folder, and beside it what must not be served."""
    folder = tmp_path_factory.mktemp("hospital")
    Volume(scans[0], AFFINE).save(folder / "root" / "sub-DOE" / "scan.nii.gz")
    Volume(scans[1], AFFINE).save(folder / "secret.nii.gz")
    (folder / "root" / "link.nii.gz").symlink_to(folder / "secret.nii.gz")
    (folder / "root" / "inner.nii.gz").symlink_to(folder / "root" / "sub-DOE" / "scan.nii.gz")
    return folder / "root"


@pytest.fixture
def serving(model_folder, root, tmp_path):
    """Starts servers; each gives a client and its service, and ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(tokens=None, hosts=("127.0.0.1",), **settings):
            scratch = stack.enter_context(Scratch(tmp_path))
            followed = FollowedModel(str(model_folder))
            config = ServeConfig(**settings)
            service = Service(followed, scratch, config, ScoreConfig(), Root(root))
            stack.callback(service.close)
            app = application(service, hosts, tokens and Tokens(tokens))
            client = TestClient(app, base_url=HERE, raise_server_exceptions=False)
            return stack.enter_context(client), service

        yield start


@pytest.fixture
def left(tmp_path):
    """Folders that a server has in its scratch folder now, beside its lock."""
    return lambda: [p for p in tmp_path.glob("medgan-serve-*/*") if p.name != ".lock"]
