"""The package imports on Windows and macOS too."""

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import medgan
from medgan.data.pseudonyms import Pseudonyms, salt_file
from medgan.studies.utility import command

POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios"}
"""Modules of the standard library that Windows lacks."""
FILES = sorted(Path(medgan.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_module_needs_posix_to_be_imported(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        assert not POSIX & {name.split(".")[0] for name in names}


POSIX_NAMES = {
    "os": {"chown", "fork", "geteuid", "getpgid", "getuid", "killpg", "mkfifo", "nice", "setsid",
           "sched_getaffinity", "statvfs", "uname", "waitpid"},
    "signal": {"SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "setitimer"},
}  # fmt: skip
GUARDED = {
    ("core/threads.py", "os.sched_getaffinity"), ("deployment/serving/tokens.py", "os.geteuid"),
    ("studies/utility/command.py", "os.killpg"), ("studies/utility/command.py", "signal.SIGKILL"),
}  # fmt: skip
"""What Windows or macOS lacks, and is used only where it is there."""


def test_what_other_systems_lack_is_used_in_known_places_only():
    found = {
        (path.relative_to(Path(medgan.__file__).parent).as_posix(), f"{node.value.id}.{node.attr}")
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        and node.attr in POSIX_NAMES.get(node.value.id, ())
    }  # fmt: skip
    assert found == GUARDED


def test_a_command_ends_where_processes_have_no_groups(monkeypatch):
    monkeypatch.delattr(os, "killpg")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    command._stop(process)
    assert process.returncode == -signal.SIGKILL


def test_the_secret_of_a_site_is_made_on_a_disk_without_links(monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no")))
    first = Pseudonyms.of_site()
    assert Pseudonyms.of_site() == first
    assert [path.name for path in salt_file().parent.iterdir()] == ["salt"]
    assert salt_file().stat().st_mode & 0o777 == 0o600


def test_the_list_of_modules_is_not_empty():
    assert len(FILES) > 100
