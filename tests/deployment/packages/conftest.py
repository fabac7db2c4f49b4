import numpy as np
import pytest

from medgan.core.volume import Volume
from medgan.deployment.packages.packaged import Packaged
from medgan.model.model import Model
from tests.kit.models import BY_AGE_AND_SEX, make_model
from tests.kit.volumes import AFFINE, ball


@pytest.fixture(scope="session")
def packaged(tmp_path_factory) -> Packaged:
    """A tiny model that scores, and draws by age and sex, with a file that nobody vouches for."""
    folder, rng = tmp_path_factory.mktemp("models") / "model", np.random.default_rng(0)
    model = make_model(BY_AGE_AND_SEX)
    model.calibrate([Volume(ball(rng).astype(np.float32), AFFINE) for _ in range(6)])
    model.save(folder)
    (folder / "notes_on_patients.txt").write_text("somebody")
    version = {"name": "brain", "version": "3", "aliases": ["champion"], "tags": {}}
    return Packaged(folder, Model.load(folder), version, [{"number": 1, "action": "promoted"}])


@pytest.fixture
def scans(tmp_path):
    """A folder with two scans."""
    rng = np.random.default_rng(1)
    for number in range(2):
        volume = Volume(ball(rng).astype(np.float32), AFFINE)
        volume.save(tmp_path / "scans" / f"scan-{number}.nii.gz")
    return tmp_path / "scans"


@pytest.fixture
def says_nothing_of_this_machine(tmp_path, packaged):
    """A check that no file of a package holds a path of this machine."""

    def check(folder):
        import medgan

        places = (str(tmp_path), str(packaged.folder), str(medgan.__file__).rsplit("/", 2)[0])
        for path in (one for one in folder.rglob("*") if one.is_file()):
            found = [one for one in (*places, "site-packages") if one.encode() in path.read_bytes()]
            assert not found, f"{path.name} holds {found}"

    return check
