"""Every deliberate exception: a code, what happened, where, and what to do about it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

log = logging.getLogger(__name__)


class Exit(IntEnum):
    """Exit statuses of the command line."""

    DONE = 0
    USAGE = 2
    """Wrong configuration or usage."""
    REFUSED = 3
    """Some inputs were refused; the rest is done."""
    ENVIRONMENT = 4
    """Disk, device or server failed."""
    DIVERGED = 5
    """Training diverged in spite of rollbacks; the last good checkpoint is kept."""
    NOT_PASSED = 6
    """A gate or an audit was not passed."""
    INTERNAL = 70
    """A fault of medgan's own."""
    RESUMABLE = 75
    """Stopped early on request; the same command continues."""


@dataclass(frozen=True)
class Note:
    """Something unusual in a scan that is used all the same.

    Attributes:
        code: short and stable, `W_` and a word.
        case: the pseudonym of the scan.
        what: what was found.
        consequence: what was done about it, or what it means.
    """

    code: str
    case: str
    what: str
    consequence: str

    def __str__(self) -> str:
        return f"{self.code} {self.case}: {self.what}; {self.consequence}"


class CodedError(BaseException):
    """What every deliberate exception says.

    Args:
        code: short and stable, `E_` and a word.
        where: what it is about: a case under its pseudonym, a setting, a folder of the user's.
        what: what is wrong, in a few words.
        remedy: what to do, in the imperative.

    Example:
        >>> print(DataError("E_SPACING", "c-1f2e", "spacing 0 mm along Z", "repair the header"))
        E_SPACING c-1f2e: spacing 0 mm along Z; repair the header
    """

    exit_status = Exit.USAGE

    def __init__(self, code: str, where: str, what: str, remedy: str) -> None:
        super().__init__(code, where, what, remedy)
        self.code, self.where, self.what, self.remedy = code, where, what, remedy

    def __str__(self) -> str:
        return f"{self.code} {self.where}: {self.what}; {self.remedy}"


class MedganError(CodedError, Exception):
    """An error that a user can act on."""


class ConfigError(MedganError):
    """The configuration or the command line is wrong."""


class DataError(MedganError):
    """A scan, a label map or a whole data set cannot be used."""

    exit_status = Exit.REFUSED


class ModelError(MedganError):
    """A model folder or checkpoint is missing, damaged or does not fit."""

    exit_status = Exit.ENVIRONMENT


class EnvironmentFailure(MedganError):
    """Disk, device or server failed."""

    exit_status = Exit.ENVIRONMENT


class TrainingDiverged(MedganError):
    """Training went wrong and rollbacks did not help."""

    exit_status = Exit.DIVERGED


class Interrupted(CodedError, KeyboardInterrupt):
    """The process was asked to stop; the same command continues.

    Not an `Exception`: code that handles the faults of one scan, file or server must not catch it.
    """

    exit_status = Exit.RESUMABLE


@contextmanager
def about(setting: str) -> Iterator[None]:
    """Errors of `data.source` are said of another setting that names scans."""
    try:
        yield
    except MedganError as error:
        if error.where != "data.source":
            raise
        raise type(error)(error.code, setting, error.what, error.remedy) from None


@contextmanager
def of_scan(case: str) -> Iterator[None]:
    """An unexpected exception inside is an error of this scan, so that other scans go on.

    Interruptions, errors with a code and failures of a disk pass.

    Args:
        case: the pseudonym of the scan.

    Raises:
        DataError: E_MEMORY, E_SCAN.
    """
    try:
        yield
    except MedganError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        log.debug("%s", case, exc_info=True)
        kind = type(error).__name__
        if is_out_of_memory(error):
            raise DataError(
                "E_MEMORY", case, "memory ran out", "crop it, or use a larger machine"
            ) from None
        raise DataError(
            "E_SCAN", case, f"unexpected {kind}", "leave it out, and report it (medgan --debug)"
        ) from None


class InternalFault(MedganError):
    """What should not happen."""

    exit_status = Exit.INTERNAL


def is_out_of_memory(error: Exception) -> bool:
    """Python's error, or one of torch on a CPU or a GPU."""
    exhausted = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
    return exhausted or "can't allocate memory" in str(error)


def as_coded(error: Exception | KeyboardInterrupt) -> CodedError:
    """Any exception as an error with a code; foreign texts are left out: they may name files."""
    if isinstance(error, CodedError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("E_STOPPED", "medgan", "asked to stop", "run the same command again")
    kind = type(error).__name__
    if is_out_of_memory(error):
        return EnvironmentFailure(
            "E_MEMORY", "medgan", "memory ran out",
            "lower train.batch, data.voxels or data.shape, or use a larger machine",
        )  # fmt: skip
    if isinstance(error, OSError) and error.errno is not None:
        reason = (error.strerror or kind).lower()
        return EnvironmentFailure(
            "E_DISK", "medgan", f"a file could not be read or written ({reason})",
            "free some space, check rights and run the same command again",
        )  # fmt: skip
    return InternalFault(
        "E_INTERNAL", "medgan", f"unexpected {kind}", "run medgan --debug VERB ... and report it"
    )


def require_one_channel(what: str, channels: Sequence[str]) -> None:
    """Refuses several image channels where one alone is supported.

    Args:
        what: is asked for.
        channels: names of the image channels of the scans or the model.

    Raises:
        ConfigError: E_CHANNEL.
    """
    if len(channels) > 1:
        raise ConfigError(
            "E_CHANNEL", what, f"works with one image channel, not with {', '.join(channels)}",
            f"use --set 'data.channels=[{channels[0]}]' and a model of that channel",
        )  # fmt: skip
