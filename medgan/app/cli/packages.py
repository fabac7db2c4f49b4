"""Verbs that make a package of a model, to install elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from medgan.app.cli.options import Json, Model, Out, Replace, Set
from medgan.app.cli.running import Answer, answer


def export(
    model: Model,
    format_: Annotated[
        str,
        typer.Option("--format", help="monai-bundle; onnx: networks alone; folder: to install"),
    ],
    wheels: Annotated[
        bool, typer.Option("--wheels", help="of a folder: download all wheels into it")
    ] = False,
    out: Out = "runs/export",
    replace: Replace = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Write a model as a package: a MONAI bundle, ONNX files, or a folder to install offline.

    It is export-dicom that writes scores for the PACS.

    Example: medgan export models:/brain@champion --format monai-bundle -o runs/bundle
    """

    def work() -> Answer:
        from medgan.app.package import export_model
        from medgan.core.config import build

        store = build({}, set_ or ()).tracking.uri
        done = export_model(model, format_, Path(out), store, wheels, replace)
        return Answer(done, [f"written   {out}", f"check     cd {out} && sha256sum -c SHA256SUMS"])

    answer(work, as_json)


def verify(
    package: Annotated[str, typer.Argument(help="folder of export --format folder")],
    as_json: Json = False,
) -> None:
    """Check an installed package: checksums, and the values it has to compute; status 6 if not.

    Example: medgan verify runs/package
    """

    def work() -> Answer:
        from medgan.core.errors import Exit
        from medgan.deployment.packages.proof import as_json as values
        from medgan.deployment.packages.proof import check_package, lines

        checked = check_package(Path(package))
        status = Exit.DONE if checked.passed else Exit.NOT_PASSED
        return Answer(values(checked), lines(checked), status)

    answer(work, as_json)
