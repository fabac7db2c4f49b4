"""A model that follows an alias, with a register and loads that the test decides."""

import logging
import threading
import time

import pytest

from medgan.core.errors import EnvironmentFailure, ModelError
from medgan.deployment import followed_model
from medgan.deployment.followed_model import FollowedModel
from medgan.model.model import Model
from tests.kit.models import make_model

ALIAS = "models:/brain@champion"


class Register:
    """Which version the alias points at, and what went wrong."""

    def __init__(self):
        self.version, self.down, self.damaged = 1, False, set()
        self.models: dict[str, Model] = {}
        self.loading = threading.Event()
        self.may_load = threading.Event()
        self.may_load.set()

    def look(self, uri, tracking_uri=""):
        if self.down:
            raise EnvironmentFailure("E_TRACKING", "MLflow", "the server does not answer", "start")
        return f"models:/brain/{self.version}"

    def load(self, uri, tracking_uri="", device="cpu"):
        self.loading.set()
        assert self.may_load.wait(10)
        if uri in self.damaged:
            raise ModelError("E_MODEL", "the model", "a file differs from its hash", "get it again")
        return self.models.setdefault(uri, make_model(seed=len(self.models)))


@pytest.fixture
def register(monkeypatch):
    made = Register()
    monkeypatch.setattr(followed_model, "version_behind", made.look)
    monkeypatch.setattr(followed_model, "load", made.load)
    return made


def test_the_model_changes_when_the_alias_moves_and_a_request_keeps_its_own(register):
    with FollowedModel(ALIAS, every_s=0.01) as followed:
        before = followed.current()
        register.version = 2
        _wait(lambda: followed.current().version == "brain/2")
        assert before.version == "brain/1"
        assert followed.current().model is register.models["models:/brain/2"]
        assert followed.current().model is not before.model
        assert followed.state.loads == 2


def test_the_old_model_answers_while_the_new_one_is_loaded(register):
    with FollowedModel(ALIAS, every_s=0.01) as followed:
        register.loading.clear()
        register.may_load.clear()
        register.version = 2
        assert register.loading.wait(10)
        assert followed.current().version == "brain/1"
        register.may_load.set()
        _wait(lambda: followed.current().version == "brain/2")


def test_a_register_out_of_reach_changes_nothing_and_is_said_once(register, caplog):
    followed = FollowedModel(ALIAS)
    register.down = True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            state = followed.check()
    assert state.failed_checks == 3
    assert state.failure.code == "E_TRACKING"
    assert followed.current().version == "brain/1"
    assert len(caplog.records) == 1
    register.down = False
    assert followed.check().failure is None


def test_a_damaged_version_leaves_the_old_one_and_is_tried_again_after_a_pause(register, caplog):
    followed = FollowedModel(ALIAS)
    register.damaged, register.version = {"models:/brain/2"}, 2
    for _ in range(3):
        state = followed.check()
    assert (state.failed_loads, state.version) == (1, "brain/1")
    assert state.failure.code == "E_MODEL"
    assert followed.check(again=True).failed_loads == 2
    register.damaged = set()
    assert followed.check(again=True).version == "brain/2"
    assert followed.state.failure is None


def test_another_version_after_a_damaged_one_is_loaded_without_a_pause(register):
    followed = FollowedModel(ALIAS)
    register.damaged, register.version = {"models:/brain/2"}, 2
    followed.check()
    register.version = 3
    assert followed.check().version == "brain/3"


def test_an_alias_that_moves_back_loads_the_earlier_version(register):
    followed = FollowedModel(ALIAS)
    register.version = 2
    followed.check()
    register.version = 1
    assert followed.check().version == "brain/1"


def test_a_failure_at_the_start_is_raised(register):
    register.damaged = {"models:/brain/1"}
    with pytest.raises(ModelError, match="E_MODEL"):
        FollowedModel(ALIAS)


@pytest.mark.parametrize("uri", ["models:/brain/7", "folder", "runs:/0a1b/model"])
def test_what_is_no_alias_never_changes(register, uri):
    with FollowedModel(uri, every_s=0.01) as followed:
        before = followed.current()
        register.version = 2
        followed.check(again=True)
        assert not followed.follows
        assert followed.current() is before
        assert before.version == ("brain/7" if uri == "models:/brain/7" else "")


def _wait(done, seconds=10.0):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)
