"""Whether this machine can do the work: versions, device, memory, disk, folders, records."""

from collections.abc import Sequence
from pathlib import Path

from medgan.app.doctor.finding import Finding
from medgan.core.errors import Exit

__all__ = ["Finding", "examine", "exit_status"]


def examine(out: Path, tracking_uri: str = "") -> list[Finding]:
    """Checks everything; nothing is left behind, and nothing is downloaded.

    Args:
        out: folder that a run would write to; need not exist.
        tracking_uri: the setting `tracking.uri`.
    """
    from medgan.app.doctor import machine, places, software, store

    return [
        *software.versions(),
        software.dicom_decoders(),
        machine.device(),
        machine.memory(),
        machine.disk("output disk", out),
        machine.temporary_disk(),
        places.output(out),
        places.caches(),
        places.secret(),
        store.tracking(out, tracking_uri),
        *store.old_file_store(Path.cwd()),
        store.telemetry(),
    ]


def exit_status(findings: Sequence[Finding]) -> Exit:
    """ENVIRONMENT where anything failed."""
    failed = any(finding.level == "failure" for finding in findings)
    return Exit.ENVIRONMENT if failed else Exit.DONE
