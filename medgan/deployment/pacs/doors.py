"""Two doors to a PACS: C-STORE to a named peer, and STOW-RS, QIDO-RS and WADO-RS of DICOMweb."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from medgan.data.dicom.frames import MODALITIES
from medgan.deployment.pacs.peers import Peer

log = logging.getLogger(__name__)
_TIMEOUT = 30.0
"""Seconds to wait for a peer."""
_PAGE = 500
"""Answers of a search that are asked for at a time."""
_FIELDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
Note = Callable[[Path, str], None]
"""Receives a file that was answered, and why it was refused; empty where it was stored."""


class PeerDown(Exception):
    """A peer that cannot be reached or is busy; the same may work later."""


class Unwanted(str):
    """A refusal that will be the same next time, such as of a class that the peer does not know."""

    __slots__ = ()


class Door(Protocol):
    """Where results go."""

    def send(self, files: Sequence[Path], note: Note) -> None:
        """Sends files, one by one; each is noted as soon as it is answered.

        Raises:
            PeerDown: the rest was not sent.
        """
        ...


class StoreDoor:
    """Sends by C-STORE.

    Args:
        peer: where to.
        title: own AE title.
    """

    def __init__(self, peer: Peer, title: str) -> None:
        self._peer, self._title = peer, title

    def __str__(self) -> str:
        return str(self._peer)

    def send(self, files: Sequence[Path], note: Note) -> None:
        """As `Door.send`."""
        from pydicom.filereader import read_file_meta_info
        from pynetdicom import AE

        ae = AE(ae_title=self._title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _TIMEOUT
        ae.connection_timeout = _TIMEOUT
        classes = {}
        for path in files:
            meta = read_file_meta_info(str(path))
            classes[path] = (meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
        for sop_class, syntax in sorted(set(classes.values())):
            ae.add_requested_context(sop_class, syntax)
        found = ae.associate(self._peer.host, self._peer.port, ae_title=self._peer.title)
        if not found.is_established:
            if found.rejected_contexts and not found.is_rejected:
                for path in files:
                    note(path, Unwanted("the peer accepts no such objects"))
                return
            why = "rejects this AE title" if found.is_rejected else "cannot be reached"
            raise PeerDown(why)
        try:
            accepted = {context.abstract_syntax for context in found.accepted_contexts}
            for path in files:
                if classes[path][0] not in accepted:
                    note(path, Unwanted("the peer accepts no such objects"))
                    continue
                status = found.send_c_store(path).get("Status")
                if status is None:
                    raise PeerDown("broke off")
                if status & 0xFF00 == 0xA700:
                    raise PeerDown(f"is out of resources (status 0x{status:04X})")
                good = status == 0 or status & 0xF000 == 0xB000
                note(path, "" if good else f"status 0x{status:04X}")
        finally:
            found.release()


class Instance(NamedTuple):
    """A file of a server. Its UIDs must not leave the node."""

    study: str
    series: str
    uid: str


class WebDoor:
    """Sends by STOW-RS, looks by QIDO-RS and fetches by WADO-RS.

    User and password are taken from `~/.netrc`, if they are there.

    Args:
        url: of the DICOMweb service.
    """

    def __init__(self, url: str) -> None:
        from dicomweb_client.api import DICOMwebClient

        self._url = url
        self._client = DICOMwebClient(url, timeout=_TIMEOUT)
        self._client.set_http_retry_params(retry=False)

    def __str__(self) -> str:
        from urllib.parse import urlsplit

        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"

    def send(self, files: Sequence[Path], note: Note) -> None:
        """As `Door.send`."""
        import pydicom

        for path in files:
            answer = self._asked(
                lambda one=path: self._client.store_instances([pydicom.dcmread(one)])
            )
            if isinstance(answer, str):
                note(path, answer)
                continue
            failed = answer.get("FailedSOPSequence") or []
            reason = failed[0].get("FailureReason", 0) if failed else 0
            note(path, f"failure reason 0x{int(reason):04X}" if failed else "")

    def studies(self, modality: str, days: int) -> dict[str, list[Instance]]:
        """The scans of the last days, by their study; other objects are left out.

        Args:
            modality: MR or CT.
            days: today is the first.

        Raises:
            PeerDown.
        """
        today = date.today()
        first = today - timedelta(days=days - 1)
        wanted = {"StudyDate": f"{first:%Y%m%d}-{today:%Y%m%d}", "ModalitiesInStudy": modality}
        found = {}
        for study in self._looked("0020000D", self._client.search_for_studies, wanted):
            found[study] = list(self._instances(study))
        return found

    def _instances(self, study: str) -> Iterator[Instance]:
        def search(**page: Any) -> list[Any]:  # noqa: ANN401 - as the client's
            return self._client.search_for_instances(study, fields=_FIELDS, **page)

        for uid, answer in self._looked("00080018", search, {}).items():
            if _value(answer, "00080016") in MODALITIES:
                yield Instance(study, _value(answer, "0020000E"), uid)

    def fetch(self, one: Instance) -> bytes:
        """A file as it is stored there.

        Raises:
            PeerDown.
        """
        found = self._asked(
            lambda: self._client.retrieve_instance(*one, media_types=(("application/dicom", "*"),))
        )
        if isinstance(found, str):
            raise PeerDown(f"does not give a file ({found})")
        file = BytesIO()
        found.save_as(file, enforce_file_format=True)
        return file.getvalue()

    def _looked(
        self, tag: str, search: Callable[..., list[Any]], filters: Mapping[str, str]
    ) -> dict[str, Any]:
        """All answers of a search by the UID in `tag`, page by page, until one has nothing new.

        Servers limit their pages differently, and some give the first one again and again.
        """
        found: dict[str, Any] = {}
        while True:
            given = {"limit": _PAGE, "offset": len(found), "search_filters": dict(filters)}
            page = self._asked(partial(search, **given))
            if isinstance(page, str):
                raise PeerDown(f"does not list its studies ({page})")
            new = {_value(one, tag): one for one in page}
            new = {uid: one for uid, one in new.items() if uid and uid not in found}
            if not new:
                return found
            found |= new

    def _asked(self, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the client gives
        """The answer, or why it was refused."""
        import requests

        try:
            return ask()
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403, 407, 408, 429) or status >= 500 or not status:
                raise PeerDown(f"answers with HTTP status {status}") from None
            return f"HTTP status {status}"
        except requests.RequestException:  # its text holds UIDs
            raise PeerDown("cannot be reached") from None


def _value(answer: dict[str, Any], tag: str) -> str:
    return str((answer.get(tag, {}).get("Value") or [""])[0])
