"""The command line: verbs that run a pipeline file, a few lines each."""

from typing import Annotated

import typer

from medgan.app.cli import (
    data,
    latent,
    models,
    packages,
    pacs,
    registry,
    running,
    scans,
    service,
    serving,
    studies,
    sweep,
)
from medgan.core.version import __version__

VERBS = {
    "Scans": (data.check, data.phantoms),
    "Models": (
        *(models.train, sweep.sweep, models.calibrate, models.share),
        *(packages.export, packages.verify),
    ),
    "Register": (models.register, registry.promote, registry.models),
    "What a model does": (
        *(scans.generate, scans.score, scans.translate, scans.augment, scans.merge, scans.lesions),
        *(latent.invert, latent.interpolate, latent.edit, latent.series, latent.directions),
        scans.export_dicom,
    ),
    "Studies": (
        *(studies.evaluate, studies.compare, studies.baseline, studies.utility, studies.audit),
    ),
    "Service": (
        *(service.run, service.report, service.sync, service.doctor, serving.serve, pacs.pacs),
    ),
}
"""All verbs but those of `bench`, by their group in the help."""
BENCH = (
    *(studies.detection, studies.lesions, studies.translation, studies.super_resolution),
    studies.convergence,
    *(service.speed, service.others, service.device),
)


def _version(asked: bool) -> bool:
    if asked:
        print(f"medgan {__version__}")
        raise typer.Exit
    return asked


def _options(
    debug: Annotated[
        bool, typer.Option(help="tracebacks for errors that should not happen")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Options of every verb."""
    running.debug = debug


def _assemble() -> typer.Typer:
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=True,
        help="Learn healthy 3D anatomy; get synthetic scans and calibrated anomaly maps. "
        "Research use only.",
        epilog="Exit status: 0 done, 2 wrong usage, 3 some scans refused and the rest done, "
        "4 disk, memory, device or server failed, 5 training diverged, 6 an audit or a gate was "
        "not passed, 70 internal fault, 75 stopped and resumable.",
    )
    app.callback()(_options)
    for group, verbs in VERBS.items():
        for verb in verbs:
            app.command(rich_help_panel=group)(verb)
    bench = typer.Typer(
        no_args_is_help=True,
        help="Measure speed and memory, how soon samples get good, how well lesions are found, or "
        "scans restored.",
    )
    for verb in BENCH:
        bench.command()(verb)
    app.add_typer(bench, name="bench", rich_help_panel="Studies")
    return app


app = _assemble()


def main() -> None:
    """Entry point of the command `medgan`."""
    app(prog_name="medgan")
