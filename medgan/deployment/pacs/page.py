"""The page of the node: what was received, waits, was sent, was refused; pseudonyms only."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.core.files import write_atomic
from medgan.deployment.pacs.listener import Turned
from medgan.deployment.pacs.records import SENT, Record
from medgan.reporting.template import render

if TYPE_CHECKING:
    from medgan.deployment.pacs.node import NodeSettings

MOST_STUDIES = 200
"""Newest studies on the page."""
STATES = {
    "receiving": "files may still come",
    "complete": "waits for scoring",
    "scored": "results wait to be sent",
    "sent": "results were sent",
    "refused": "nothing was sent",
}
_CLASSES = {"sent": "passed", "refused": "failed"}


def write_page(
    path: Path, records: Sequence[Record], turned: Sequence[Turned], version: str,
    settings: "NodeSettings", destination: str, troubles: Mapping[str, str],
) -> None:  # fmt: skip
    """Writes the page.

    Args:
        path: of the page.
        records: all studies.
        turned: what was turned away since the start.
        version: of the model in use.
        settings: of the node.
        destination: where results go.
        troubles: why studies are not `scored` or `fetched`, results not `sent`, and the `model` of
            the alias not used at the moment; empty if they are.

    Raises:
        EnvironmentFailure: E_DISK.
    """
    newest = sorted(records, key=lambda one: -one.changed)
    counts = dict.fromkeys(STATES, 0)
    for record in records:
        counts[record.state] += 1
    text = render(
        "pacs.html.j2",
        written=_time(datetime.now().timestamp()), version=version, destination=destination,
        troubles=troubles, counts=counts, states=STATES,
        listens=f"{settings.title} on {settings.host}:{settings.port}" if settings.allowed else "",
        allowed=settings.allowed, fetch_days=settings.fetch_days,
        quiet=settings.timing.quiet_seconds, keep=settings.timing.keep_hours,
        studies=[_row(record) for record in newest[:MOST_STUDIES]],
        more=max(0, len(records) - MOST_STUDIES),
        turned=[{"time": _time(one.time), "peer": one.peer, "what": one.what}
                for one in reversed(turned)],
    )  # fmt: skip
    write_atomic(path, text, private=True)


def _row(record: Record) -> dict[str, Any]:
    sent = sum(one.state == SENT for one in record.outgoing)
    return {
        "study": record.study, "subject": record.subject, "state": record.state,
        "mark": _CLASSES.get(record.state, "inconclusive"), "begun": _time(record.begun),
        "changed": _time(record.changed), "instances": record.instances,
        "results": [vars(one) for one in record.series.values()],
        "objects": f"{sent} of {len(record.outgoing)}" if record.outgoing else "",
        "remarks": record.remarks, "deleted": record.deleted,
    }  # fmt: skip


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"
