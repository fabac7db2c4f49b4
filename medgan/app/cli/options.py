"""Options and arguments that several verbs share."""

from typing import Annotated, Any

import typer


def _presets(incomplete: str) -> list[str]:
    """Names of shipped pipelines, for the shell's completion."""
    from medgan.app.presets import shipped_pipelines

    return [name for name in shipped_pipelines() if name.startswith(incomplete)]


Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="section.key=value; repeat")
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Replace = Annotated[
    bool, typer.Option("--replace", help="remove what another command has left in the folder")
]
Out = Annotated[str, typer.Option("-o", "--out", help="folder that receives everything")]
OutOfFile = Annotated[
    str, typer.Option("-o", "--out", help="folder that receives everything, if not the file's")
]
"""Of verbs that run a pipeline file, which may name a folder itself."""
Model = Annotated[str, typer.Argument(help="folder, models:/name@alias or runs:/id/model")]
Source = Annotated[
    str, typer.Argument(help="folder of NIfTI or DICOM, BIDS tree, Decathlon folder or CSV")
]
Engine = Annotated[
    str, typer.Option(help="local: processes of this machine; ray: a Ray cluster (medgan[ray])")
]
Workers = Annotated[
    int | None, typer.Option(help="processes that work at a time; 1 is this one; 0: what pays")
]
ShardOf = Annotated[
    str, typer.Option("--shard", metavar="I/N", help="share of the scans to work on, such as 3/10")
]
Preset = Annotated[
    str,
    typer.Option(
        help="pipeline whose data section holds, as for its training", autocompletion=_presets
    ),
]
Pipeline = Annotated[
    str,
    typer.Argument(help="pipeline file or the name of a shipped one", autocompletion=_presets),
]
Pipelines = Annotated[
    list[str],
    typer.Argument(help="pipeline files or names of shipped ones", autocompletion=_presets),
]


def conditions(texts: list[str] | None, section: str = "generate.conditions") -> list[str]:
    """The texts of --set: a key without a dot is a condition of the model, such as `age=70`.

    Args:
        texts: as given.
        section: the setting that holds the conditions.
    """
    from medgan.core.config import Config

    found = []
    for text in texts or []:
        key, separator, _ = text.partition("=")
        setting = "." in key or key.strip() in Config.model_fields or not separator
        found.append(text if setting else f"{section}.{text.strip()}")
    return found


def executor(engine: str, workers: int | None, shard: str) -> dict[str, Any]:
    """The executor section of these options; nothing where none was given."""
    given = {"engine": engine, "workers": workers, "shard": shard}
    found = {name: value for name, value in given.items() if value not in ("", None)}
    return {"executor": found} if found else {}
