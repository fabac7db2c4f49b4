"""The verb of the DICOM node."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from medgan.app.cli.options import Json, Model, Set
from medgan.app.cli.running import Answer, answer, refuse_unread

_READ = {"pacs", "score.false_alarms", "score.smallest_mm3", "tracking.uri"}
"""Settings that the node reads."""


def pacs(
    model: Model,
    title: Annotated[str, typer.Option("--ae-title", help="own AE title")] = "MEDGAN",
    host: Annotated[
        str, typer.Option(help="address to listen on; 0.0.0.0 is all of this machine")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on")] = 11112,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="AE", help="AE title that may send; repeat")
    ] = None,
    send_to: Annotated[
        str, typer.Option(metavar="AE@HOST:PORT", help="where results go, by C-STORE")
    ] = "",
    dicomweb: Annotated[
        str, typer.Option(metavar="URL", help="DICOMweb service: takes results without --send-to")
    ] = "",
    fetch_days: Annotated[
        int, typer.Option(help="fetch the studies of so many days from --dicomweb; 0 fetches none")
    ] = 0,
    out: Annotated[
        str, typer.Option("-o", "--out", help="folder for patient data: the queue and its page")
    ] = "runs/pacs",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Score studies as they come from the PACS, and send segmentations and reports back.

    Runs until it is stopped. A restart goes on where it was. Needs medgan[pacs].

    Example: medgan pacs models:/brain@champion --allow PACS --send-to PACS@127.0.0.1:4242
    """

    def work() -> Answer:
        from medgan.core.config import build
        from medgan.core.errors import ConfigError
        from medgan.deployment.pacs.node import NodeSettings, run_node
        from medgan.deployment.pacs.peers import Peer, checked_title

        refuse_unread(set_ or [], _READ, "pacs")
        config = build({}, set_ or [])
        if not (send_to or dicomweb):
            raise ConfigError(
                "E_USAGE", "--send-to", "results go nowhere", "name a peer, or --dicomweb"
            )
        if fetch_days < 0 or (fetch_days and not dicomweb):
            raise ConfigError("E_USAGE", "--fetch-days", "needs --dicomweb", "give its URL")
        if not (allow or fetch_days):
            raise ConfigError(
                "E_USAGE", "--allow", "nobody may send", "name an AE title, or give --fetch-days"
            )
        settings = NodeSettings(
            checked_title(title, "--ae-title"), host, port,
            [checked_title(one, "--allow") for one in allow or []],
            Peer.read(send_to) if send_to else None, dicomweb, fetch_days,
            config.pacs, config.score,
        )  # fmt: skip
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())

        def ready(port: int) -> None:
            where = f" {settings.title} on {settings.host}:{port}" if port else ""
            print(f"ready    {where}", flush=True, file=sys.stderr if as_json else sys.stdout)

        counts = run_node(Path(out), model, config.tracking.uri, settings, stop, ready)
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        lines = [f"studies   {told}", "note      the folder holds patient data"]
        return Answer({"studies": counts, "folder": out}, lines)

    answer(work, as_json)
