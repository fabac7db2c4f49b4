"""File systems that are too small, mounted for one process."""

import shlex
import shutil
import subprocess

import pytest

from tests.kit.command_line import MEDGAN
from tests.kit.data_sets import write_folder
from tests.kit.folder_contents import contents
from tests.kit.models import save_calibrated

_UNSHARE = ["unshare", "--map-root-user", "--mount"]


def _can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_UNSHARE, "true"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _can_mount(), reason="this machine lets nobody mount"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a calibrated model, and 60 scans."""
    folder = tmp_path_factory.mktemp("mounts")
    save_calibrated(folder / "model")
    write_folder(folder / "scans", 60, labels=False)
    return folder


def medgan_with(mount, size, *arguments, after=""):
    """The command line where a file system of some size lies on a folder, and what is left there.

    Args:
        mount: folder that is covered; for this process and its children alone.
        size: as `mount -t tmpfs -o size=` takes it.
        arguments: of medgan.
        after: a command of the shell that runs before all is gone; its output follows.
    """
    words = shlex.join([*MEDGAN, *map(str, arguments)])
    script = f"mount -t tmpfs -o size={size} none {shlex.quote(str(mount))} && {{ {words}; }}"
    script += f"; status=$?; {after or 'true'}; exit $status"
    return subprocess.run(
        [*_UNSHARE, "sh", "-c", script], capture_output=True, text=True, timeout=300
    )


@pytest.mark.fault(44)
@pytest.mark.parametrize("size", ["64k", "64m"])
def test_workers_need_no_shared_memory(place, tmp_path, size, measured):
    score = ["score", place / "model", place / "scans", "--workers", "2", "-o"]
    small = medgan_with("/dev/shm", size, *score, tmp_path / "small")
    assert small.returncode == 0, small.stderr
    plain = subprocess.run(
        [*MEDGAN, *map(str, [*score, tmp_path / "plain"])], capture_output=True, timeout=300
    )
    assert plain.returncode == 0
    assert contents(tmp_path / "small") == contents(tmp_path / "plain")
    measured(f"/dev/shm of {size}: two workers score 60 scans as with all of it")


@pytest.mark.fault(29)
def test_a_training_on_a_full_disk_ends_with_status_4_and_leaves_no_half_file(
    place, tmp_path, measured
):
    (tmp_path / "disk").mkdir()
    done = medgan_with(
        tmp_path / "disk", "1m",
        "train", "msd_hippocampus", "--data", place / "scans", "-o", tmp_path / "disk" / "out",
        "--set", "data.labels=[]", "--set", "tracking.uri=none",
        after=f"find {tmp_path / 'disk'} -name '*.tmp*'",
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "E_DISK" in done.stderr
    assert done.stdout.strip() == ""
    measured("a training on a disk of 1 MB: status 4, no temporary file left")


@pytest.mark.fault(29)
def test_scoring_on_a_disk_that_fills_keeps_what_was_scored_and_goes_on(place, tmp_path, measured):
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    score = ["score", place / "model", place / "scans", "-o"]
    done = medgan_with(
        disk, "600k", *score, disk / "out",
        after=f"cp -r {disk / 'out'} {kept}; find {disk} -name '*.tmp*'",
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "E_DISK" in done.stderr
    assert done.stdout.strip() == ""
    before = len(list(kept.glob("**/work/cases/*.json")))
    again = subprocess.run(
        [*MEDGAN, *map(str, [*score, kept])], capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0, again.stderr
    assert f"{before} of 60 were done by an earlier run" in again.stderr
    measured(f"scoring on a disk that fills after {before} of 60 scans: status 4, then it goes on")
