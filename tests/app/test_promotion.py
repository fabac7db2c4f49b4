"""The gate from the command line: promoted, refused, rolled back, tampered with."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from medgan.anomaly.calibration import ScoringConfig
from medgan.core.errors import ModelError
from medgan.core.volume import Volume
from medgan.studies.gate import gate, measure
from medgan.tracking.client import connect, sqlite_uri
from medgan.tracking.loading import load
from medgan.tracking.versions import history_of, version_behind
from tests.kit.command_line import inside
from tests.kit.data_sets import write_folder
from tests.kit.models import make_model

GATE = {
    "extends": "gate",
    "config": {"gate": {"audit": False, "limits": {
        "kernel_distance": {"most": 1000.0, "worse_by": 500.0},
        "auroc": None, "average_precision": None, "not_comparable": {"most": 0.5},
    }}},
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Fewer random halves, by which the gate knows the interval of the kernel distance."""
    patch = pytest.MonkeyPatch()
    patch.setattr(measure, "kernel_interval", partial(measure.kernel_interval, draws=60))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("scans") / "healthy", 30, labels=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory, scans):
    """A model that is calibrated as it should be, and one whose calibration scores are too low."""
    good = tmp_path_factory.mktemp("models") / "good"
    model = make_model()
    model.learn_densities(lambda: [model.channels(model.draw(0, n))[None, :1] for n in range(4)])
    healthy = [Volume.load(path) for path in sorted(scans.glob("*.nii.gz"))]
    model.calibrate(healthy, ScoringConfig(("density",)))
    model.save(good)
    low = np.asarray(model.needed_calibration.scores) - 100
    model.calibration = replace(model.needed_calibration, scores=tuple(map(float, low)))
    model.save(good.with_name("alarming"))
    return good.parent


class Site:
    """A register of its own, and the verbs on it."""

    def __init__(self, folder: Path, models: Path, scans: Path, database: Path) -> None:
        self.folder, self.models, self.scans = folder, models, scans
        self.uri = sqlite_uri(database)
        self.store = ("--set", f"tracking.uri={self.uri}")
        self.gate = folder / "gate.yaml"
        self.gate.write_text(yaml.safe_dump(GATE))

    def register(self, name="good"):
        done = inside("register", self.models / name, "--name", "brain", "-o",
                      self.folder / "register", *self.store)  # fmt: skip
        assert done.returncode == 0, done.stderr

    def promote(self, *more, status=0):
        done = inside(
            "promote", "brain", *more, "--data", self.scans, "--gate", self.gate, "-o",
            self.folder / "promote", "--replace", "--json", "--by", "ann", "--set",
            "data.fractions=[0.28,0.02,0.3,0.4]", *self.store,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    def verb(self, *arguments, status=0):
        done = inside(*arguments, "--json", *self.store)
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    @property
    def champion(self):
        return version_behind("models:/brain@champion", self.uri).rpartition("/")[2]


@pytest.fixture
def site(tmp_path, models, scans, database):
    return Site(tmp_path, models, scans, database)


@pytest.mark.long
def test_a_version_is_promoted_another_refused_and_the_first_given_back(site, tmp_path):
    told = tmp_path / "told.txt"
    script = tmp_path / "tell.sh"
    script.write_text(f'echo "$MEDGAN_NAME $MEDGAN_VERSION $MEDGAN_ALIAS" >> "{told}"\n')
    site.register()
    command = ("--set", f"gate.command=sh {script}")
    first = site.promote("--why", "the first", *command)["gate"]
    assert first["passed"]
    assert told.read_text() == "brain 1 champion\n"
    assert load("models:/brain@champion", site.uri).calibration is not None

    site.register("alarming")
    refused = site.promote(*command, status=6)["gate"]
    assert [line.partition(":")[0] for line in refused["failed"]] == ["false alarms"]
    assert site.champion == "1"
    assert told.read_text() == "brain 1 champion\n"
    page = (tmp_path / "promote" / "gate.html").read_text()
    assert "refused" in page
    assert "models:/brain/1" in page  # the champion, measured beside it

    site.register()
    assert site.promote()["gate"]["passed"]
    assert site.champion == "3"
    assert site.promote(status=2)["error"]["what"] == "is champion already"
    back = site.verb("promote", "brain", "--rollback", "--why", "artefacts in scans of site B")
    assert back["version"] == site.champion == "1"
    site.verb("promote", "brain", "--rollback", status=2)

    listed = site.verb("models", "brain", "-o", tmp_path / "models")["models"][0]
    assert [row["aliases"] for row in listed["versions"]] == [["challenger"], [], ["champion"]]
    assert [one["action"] for one in listed["promotions"]] == [
        "promoted", "refused", "promoted", "rolled back"
    ]  # fmt: skip
    assert listed["promotions"][0]["who"] == "ann"
    assert listed["faults"] == []
    assert "artefacts in scans of site B" in (tmp_path / "models" / "models.html").read_text()


def test_tampered_files_or_records_and_a_champion_without_the_gate_are_refused(site, tmp_path):
    site.register()
    site.promote("--why", "good")
    config = next(
        Path(site.uri.removeprefix("sqlite:///")).parent.rglob("artifacts/model/config.json")
    )
    kept = config.read_text()
    changed = json.loads(kept) | {"label_offset": 0.25}
    config.write_text(json.dumps(changed))
    for address in ("models:/brain@champion", "models:/brain/1"):
        with pytest.raises(ModelError, match=r"E_TAMPERED .* not those that were registered"):
            load(address, site.uri)
    client = connect(site.uri, write=True)
    client.set_model_version_tag(
        "brain", "1", "content_sha256", hashlib.sha256(config.read_bytes()).hexdigest()
    )
    with pytest.raises(ModelError, match=r"E_TAMPERED .* not those that were promoted"):
        load("models:/brain@champion", site.uri)
    with pytest.raises(ModelError, match="E_TAMPERED"):
        version_behind("models:/brain@champion", site.uri)

    site.register()
    client.set_registered_model_alias("brain", "champion", "2")
    with pytest.raises(ModelError, match=r"E_GATE .* without the gate"):
        load("models:/brain@champion", site.uri)
    listed = site.verb("models", "-o", tmp_path / "models", status=6)["models"][0]
    assert listed["faults"] == ["champion is version 2, for which no record vouches"]

    tags = client.get_registered_model("brain").tags
    key = next(key for key in tags if key.startswith("medgan.promotion"))
    client.set_registered_model_tag("brain", key, tags[key].replace("good", "best"))
    listed = site.verb("models", "-o", tmp_path / "models", status=6)["models"][0]
    assert "was changed" in listed["faults"][0]


def test_the_alias_of_the_champion_and_a_gate_without_scans_or_limits_are_refused(site):
    folder = site.models / "good"
    refused = site.verb(
        "register", folder, "--alias", "champion", "-o", site.folder / "r", status=2
    )
    assert refused["error"]["code"] == "E_GATE"
    assert site.verb("promote", "brain", status=2)["error"]["where"] == "--data"
    site.register()
    site.gate.write_text(yaml.safe_dump({"steps": ["index", "gate"]}))
    assert site.promote(status=2)["error"]["where"] == "gate.limits"


@pytest.mark.fault("gate race")
@pytest.mark.parametrize("how", ["through the gate", "by hand"])
def test_a_champion_of_meanwhile_refuses_the_one_that_was_compared_with_another(
    how, site, monkeypatch
):
    site.register()
    site.register()
    client, run_gate = connect(site.uri, write=True), gate.run_gate

    def measured_while_another_is_promoted(*args):
        monkeypatch.setattr(gate, "run_gate", run_gate)
        if how == "by hand":
            client.set_registered_model_alias("brain", "champion", "1")
        else:  # and its alias has not moved yet
            content = client.get_model_version("brain", "1").tags["content_sha256"]
            made = history_of(site.uri, "brain").next(
                "promoted", "champion", "1", content, "", "bob"
            )
            client.set_registered_model_tag("brain", *made.tag)
        return run_gate(*args)

    monkeypatch.setattr(gate, "run_gate", measured_while_another_is_promoted)
    refused = site.promote("2", status=2)["error"]
    assert refused["code"] == "E_GATE"
    assert refused["what"] == "another champion was promoted meanwhile"
    assert [one.version for one in history_of(site.uri, "brain").decisions("champion")] != ["2"]
