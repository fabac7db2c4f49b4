"""The verb of the server."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from medgan.app.cli.options import Json, Model, Set
from medgan.app.cli.running import Answer, answer, refuse_unread

_READ = {"serve", "score.smallest_mm3", "score.false_alarms", "tracking.uri", "train.device"}
"""Settings that the server reads."""


def serve(  # nosec B107 # no token, but the name of a file
    model: Model,
    root: Annotated[
        str, typer.Option(help="folder whose scans may be scored by path; none without it")
    ] = "",
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one")] = 8080,
    tokens: Annotated[
        str, typer.Option(help="file of users and hashes of their tokens, private")
    ] = "",
    add_token: Annotated[
        str,
        typer.Option(
            metavar="NAME:ROLE",
            help="add a reader or operator to --tokens, and end",
        ),
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="further name of this server in URLs; repeat"),
    ] = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Serve a model over HTTP: scores, maps, pages, synthetic scans. SIGTERM ends it.

    An alias is followed: the version it points at is loaded without a pause. Needs medgan[serve].

    Example: medgan serve models:/brain@champion --root scans
    """

    def work() -> Answer:
        from medgan.core.config import build
        from medgan.deployment.serving.server import Listening
        from medgan.deployment.serving.server import serve as run
        from medgan.networks.device import choose_device
        from medgan.tracking.client import reading_uri

        if add_token:
            return _new_token(tokens, add_token)
        refuse_unread(set_ or [], _READ, "serve")
        config = build({}, set_ or ())
        uri = "" if config.tracking.uri == "none" else config.tracking.uri or reading_uri()
        listening = Listening(
            host, port, allow_host or (), Path(tokens) if tokens else None,
            Path(root) if root else None,
        )  # fmt: skip
        for handler in logging.getLogger().handlers:
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        device = choose_device(config.train.device).type
        run(model, listening, config, uri, device, lambda at: print(f"open      {at}", flush=True))
        return Answer({"served": model}, ())

    answer(work, as_json)


def _new_token(tokens: str, name_and_role: str) -> Answer:
    from medgan.core.errors import ConfigError
    from medgan.deployment.serving.tokens import add_token

    if not tokens:
        raise ConfigError("E_USAGE", "--add-token", "no file named", "name it with --tokens")
    token = add_token(Path(tokens), name_and_role)
    lines = [f"token     {token}", "note      it is not kept; the file holds its hash"]
    return Answer({"token": token}, lines)
