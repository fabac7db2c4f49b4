"""Verbs about scans before there is a model."""

from medgan.app.cli.options import Json, Out, Replace, Set, Source
from medgan.app.cli.running import run_verb


def check(source: Source, out: Out = "runs/check", set_: Set = None, as_json: Json = False) -> None:
    """Index and validate scans; write the manifest and the table of refusals.

    Example: medgan check scans -o runs/check
    """
    run_verb("check", {"out": out, "data": {"source": source}}, set_, as_json)


def phantoms(
    out: Out = "runs/phantoms", replace: Replace = False, set_: Set = None, as_json: Json = False
) -> None:
    """Make a data set of procedural head phantoms, some with a lesion, and train on it.

    Example: medgan phantoms -o runs/phantoms --set phantoms.subjects='[100, 8]'
    """
    run_verb("phantoms", {"out": out}, set_, as_json, replace=replace)
