"""The package imports on Windows and macOS too."""

import ast
from pathlib import Path

import pytest

import medgan

POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios"}
"""Modules of the standard library that Windows lacks."""
FILES = sorted(Path(medgan.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_module_needs_posix_to_be_imported(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        assert not POSIX & {name.split(".")[0] for name in names}


def test_the_list_of_modules_is_not_empty():
    assert len(FILES) > 100
