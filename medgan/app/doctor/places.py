"""Folders that must be writable, and the site's secret."""

import os
import stat
import tempfile
from pathlib import Path

from medgan.app.doctor.finding import Finding
from medgan.app.doctor.machine import nearest
from medgan.data.pseudonyms import salt_file


def output(out: Path) -> Finding:
    """Whether a run can write to its folder and to the cache in it."""
    remedy = "choose another folder with -o, or ask for the right to write"
    for part, folder in (("", out), ("its cache ", out / "cache")):
        if reason := why_not_writable(nearest(folder)):
            return Finding(
                "output folder", "failure", f"{part}cannot be written ({reason})", remedy
            )
    return Finding("output folder", "ok", "writable")


def caches() -> Finding:
    """The user's cache, where matplotlib and torch keep things; they do without it, slower."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    if reason := why_not_writable(nearest(Path(home))):
        return Finding(
            "cache folder", "warning", f"cannot be written ({reason}): starting takes longer",
            "set XDG_CACHE_HOME and MPLCONFIGDIR to a folder you may write to",
        )  # fmt: skip
    return Finding("cache folder", "ok", "writable")


def secret() -> Finding:
    """The secret that pseudonyms are made with: whoever has it can find out who they stand for."""
    name, path = "site's secret", salt_file()
    writable = "set XDG_CONFIG_HOME to a folder of your own that you may write to"
    try:
        if not path.exists():
            if reason := why_not_writable(nearest(path.parent)):
                what = f"cannot be made: the configuration folder is not writable ({reason})"
                return Finding(name, "failure", what, writable)
            return Finding(name, "ok", "none yet; made on first use, for its owner alone")
        rights = stat.S_IMODE(path.stat().st_mode)
        whole = len(bytes.fromhex(path.read_text())) >= 32
    except (OSError, ValueError):
        whole, rights = False, 0
    if not whole:
        return Finding(
            name, "failure", "cannot be read or is damaged",
            "restore medgan/salt of the configuration folder from a backup; without it the same "
            "subjects get other pseudonyms",
        )  # fmt: skip
    if rights & 0o077:
        return Finding(
            name, "warning", f"others may read it (mode {rights:03o})",
            "chmod 600 medgan/salt in the configuration folder",
        )  # fmt: skip
    return Finding(name, "ok", "for its owner alone")


def why_not_writable(folder: Path) -> str:
    """Why nothing can be written there; empty where it can. Tried, not asked: disks fill up."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    return ""
