import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medgan.core.errors import EnvironmentFailure
from medgan.core.files import locked, write_atomic


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_bytes_and_text_are_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a"
    for data in ("Zoë", b"\x00\xff", ""):
        write_atomic(path, data)
        assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert list(path.parent.iterdir()) == [path]


def test_private_files_are_the_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_atomic(tmp_path / "private", "x", private=True)
        write_atomic(tmp_path / "public", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o666


@pytest.mark.fault(29)
@pytest.mark.parametrize("broken", ["fsync", "replace", "open"])
def test_an_older_file_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "a"
    write_atomic(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, full)
        with pytest.raises(EnvironmentFailure, match=r"E_DISK a: not written \(no space left"):
            write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomic(path, "new")
    assert path.read_text() == "new"


def test_the_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen, fsync = tmp_path / "a", [], os.fsync

    def watched(handle: int) -> None:
        seen.append(path.exists())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    write_atomic(path, "x")
    assert seen == [False, True]  # the file, then its folder


def test_a_folder_that_is_a_file_is_an_error_with_a_code(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match="E_DISK"):
        write_atomic(tmp_path / "file" / "a", "x")
    with (
        pytest.raises(EnvironmentFailure, match="E_DISK"),
        locked(tmp_path / "file" / "folder"),
    ):
        pass


def test_an_interruption_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    write_atomic(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_waiting_process_goes_on_when_the_folder_is_free(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from medgan.core.files import locked\n"
        "print('waits', flush=True)\n"
        "with locked(Path(sys.argv[1]), wait=True): print('held', flush=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with locked(tmp_path):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    assert process.communicate(timeout=60)[0] == "held\n"


def test_a_folder_without_a_right_to_write_is_an_error_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(EnvironmentFailure, match=r"E_DISK.*permission denied"), locked(tmp_path):
        pass


@pytest.mark.fault(40)
def test_a_second_holder_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from medgan.core.files import locked\n"
        "from medgan.core.errors import EnvironmentFailure\n"
        "try:\n    with locked(Path(sys.argv[1])): print('held')\n"
        "except EnvironmentFailure as error: print(error.code)"
    )

    def other_process() -> str:
        command = [sys.executable, "-c", code, str(tmp_path / "run")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with locked(tmp_path / "run"):
        assert other_process() == "E_BUSY"
        with pytest.raises(EnvironmentFailure, match="E_BUSY"), locked(tmp_path / "run"):
            pass
    assert other_process() == "held"


RACE = """
import os, select, sys
from pathlib import Path
from medgan.core.errors import EnvironmentFailure
from medgan.core.files import locked

def child(start, told, tell):
    os.read(start, 1)
    try:
        with locked(Path(sys.argv[1])):
            heard, _, _ = select.select([told], [], [], 10)  # until the other one has been refused
            return 0 if heard else 5
    except EnvironmentFailure as error:
        os.write(tell, b".")
        return int(error.exit_status) if error.code == "E_BUSY" else 6

for _ in range(200):
    start, go = os.pipe()
    told, tell = os.pipe()
    children = []
    for _ in range(2):
        if not (pid := os.fork()):
            status = 7
            try:
                status = child(start, told, tell)
            finally:
                os._exit(status)
        children.append(pid)
    os.write(go, b"..")
    ends = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)
    print(*ends)
    if ends != [0, 4]:
        break
    for handle in (start, go, told, tell):
        os.close(handle)
"""


@pytest.mark.fault(40)
def test_of_two_processes_at_once_one_holds_the_folder_and_one_gets_status_4(
    tmp_path: Path, measured
) -> None:
    command = [sys.executable, "-c", RACE, str(tmp_path / "run")]
    rounds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    ends = [pair for pair in rounds if pair]
    assert set(ends) == {"0 4"}
    measured(f"{len(ends)} times two processes at once: one holds the folder, one status 4")


def test_an_error_inside_lets_go_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass
