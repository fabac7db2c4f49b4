"""How a verb runs: what it prints, its errors in one line each, its exit status."""

import json
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from medgan.core.launched import launched
from medgan.core.stop_signals import STOP_SIGNALS

debug = False
"""Whether errors that should not happen end in a traceback."""


@dataclass(frozen=True)
class Answer:
    """What a verb prints.

    Attributes:
        values: for --json.
        lines: without it.
        status: of the process.
    """

    values: Any
    lines: Sequence[str]
    status: int = 0


def run_verb(
    pipeline: str,
    values: Mapping[str, Any],
    overrides: Sequence[str] | None,
    as_json: bool,
    preset: str = "",
    sections: Sequence[str] = ("data",),
    replace: bool = False,
    folder: str = "",
    again: tuple[str, bool] | None = None,
) -> None:
    """Runs a pipeline with what a verb was given; --set wins over it.

    Args:
        pipeline: path of a file, or name of a shipped one.
        values: nested settings that the verb's arguments stand for.
        overrides: texts of --set.
        as_json: whether to print JSON.
        preset: pipeline from which some sections are taken; empty takes none.
        sections: which.
        replace: whether to remove what other commands have left in the folder.
        folder: receives everything where neither the pipeline nor the values name one.
        again: step to begin with and whether to do unchanged ones, where these are skipped.
    """

    def work() -> Answer:
        from medgan.app.pipeline import Again, run_pipeline
        from medgan.app.pipeline_files import read_pipeline
        from medgan.core.config import merge

        described = read_pipeline(preset)[1] if preset else {}
        taken = {name: described[name] for name in sections if name in described}
        if folder and "out" not in read_pipeline(pipeline)[1]:
            taken["out"] = folder
        skips = None if again is None else Again(*again)
        done = run_pipeline(pipeline, overrides or [], merge(taken, values), replace, skips)
        return Answer(done.as_json(), done.closing_lines(), int(done.exit_status))

    answer(work, as_json, shared=True)


def answer(work: Callable[[], Answer], as_json: bool, shared: bool = False) -> None:
    """Prints what some work gives, turns errors into one line, and ends with its status.

    Of several processes that torchrun has started, the first speaks. The others tell only of errors
    that are their own.

    Args:
        work: gives what is printed.
        as_json: whether to print JSON.
        shared: whether several processes may do the work together; else they are refused.
    """
    from medgan.core.errors import CodedError, Interrupted, TrainingDiverged, as_coded

    own = launched()
    rank = own.rank
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.WARNING)
    logging.getLogger("medgan").setLevel(logging.ERROR if rank else logging.INFO)
    logging.getLogger("monai").setLevel(logging.ERROR)  # its optional readers
    warnings.filterwarnings("ignore", module=r"monai\..*")
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    try:
        if own.ranks > 1 and not shared:
            from medgan.core.joining import require_alone

            require_alone("this command")
        found = work()
        if rank:
            raise typer.Exit(found.status)
        if as_json:
            print(json.dumps(found.values, indent=1))
        else:
            for line in found.lines:
                print(line)
        raise typer.Exit(found.status)
    except typer.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if debug and not isinstance(error, CodedError):
            raise
        failure = as_coded(error)
        common = isinstance(failure, (Interrupted, TrainingDiverged)) or failure.code == "E_RANKS"
        if rank and common:
            raise typer.Exit(int(failure.exit_status)) from None
        if as_json and not rank:
            parts = ("code", "where", "what", "remedy")
            print(json.dumps({"error": {part: getattr(failure, part) for part in parts}}))
        speaker = f"medgan, process {rank}" if rank else "medgan"
        print(f"{speaker}: {failure}", file=sys.stderr)
        raise typer.Exit(int(failure.exit_status)) from None


def refuse(where: str, what: str, remedy: str, as_json: bool) -> None:
    """Ends with one line about options that do not go together."""
    from medgan.core.errors import ConfigError

    def work() -> Answer:
        raise ConfigError("E_USAGE", where, what, remedy)

    answer(work, as_json)


def refuse_unread(overrides: Sequence[str], read: Collection[str], verb: str) -> None:
    """Refuses settings that a verb without a pipeline does not read.

    Args:
        overrides: texts of --set.
        read: sections, or single settings by their full names.
        verb: for the message.

    Raises:
        ConfigError: E_SET.
    """
    from medgan.core.errors import ConfigError

    for override in overrides:
        key, given, _ = override.partition("=")
        key = key.strip()
        if given and key not in read and key.partition(".")[0] not in read:
            raise ConfigError("E_SET", key, f"not read by {verb}", "leave it out")


def _stop(number: int, frame: object) -> None:
    """A signal to stop before or after a training; while it runs it has handlers of its own."""
    from medgan.core.errors import Interrupted

    raise Interrupted("E_STOPPED", "medgan", "asked to stop", "run the same command again")
