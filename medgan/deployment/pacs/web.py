"""The door to a PACS by DICOMweb: STOW-RS, and QIDO-RS and WADO-RS to fetch studies."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medgan.data.dicom.frames import MODALITIES
from medgan.deployment.pacs.doors import TIMEOUT, Note, PeerDown, readable

if TYPE_CHECKING:
    from requests import Response

_PAGE = 500
"""Answers of a search that are asked for at a time."""
_FIELDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
_TOLD = "00201208"
"""Number of Study Related Instances."""
_DOWN = (401, 403, 407, 408, 429)
"""HTTP statuses of a service that is busy, or not for us; all from 500 on are, too."""
_NO_SERVICE = (404, 405)
"""To what is sent: such as while the service starts behind its web server."""


class Denied(Exception):
    """What a server does not take or give; it may take or give others.

    Args:
        why: in words.
        status: of HTTP; 0 for another reason.
    """

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


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
        import requests
        from dicomweb_client.api import DICOMwebClient

        session = requests.Session()
        session.hooks["response"].append(check_answer)
        self._url = url
        self._client = DICOMwebClient(url, session, timeout=TIMEOUT)
        self._client.set_http_retry_params(retry=False)

    def __str__(self) -> str:
        from urllib.parse import urlsplit

        parts = urlsplit(self._url)
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"

    def send(self, files: Sequence[Path], note: Note) -> None:
        """As `Door.send`."""
        import pydicom

        for path, one in readable(files, pydicom.dcmread, note):
            try:
                answer = _asked(lambda one=one: self._client.store_instances([one]))
            except Denied as denied:
                if denied.status in _NO_SERVICE:
                    raise PeerDown(f"answers with {denied}") from None
                note(path, str(denied))
                continue
            failed = answer.get("FailedSOPSequence") or []
            reason = failed[0].get("FailureReason", 0) if failed else 0
            note(path, f"failure reason 0x{int(reason):04X}" if failed else "")

    def studies(self, modality: str, days: int) -> dict[str, int]:
        """UIDs of the studies of the last days, and how many objects each has; 0 where not told.

        Args:
            modality: MR or CT.
            days: today is the first.

        Raises:
            PeerDown, Denied.
        """
        today = date.today()
        first = today - timedelta(days=days - 1)
        wanted = {"StudyDate": f"{first:%Y%m%d}-{today:%Y%m%d}", "ModalitiesInStudy": modality}
        found = _looked("0020000D", self._client.search_for_studies, wanted)
        return {uid: _number(answer, _TOLD) for uid, answer in found.items()}

    def instances(self, study: str, told: int = 0) -> list[Instance]:
        """The scans in a study; other objects are left out.

        Args:
            study: its UID.
            told: how many objects it has by the answer to another search; 0 where that is unknown.

        Raises:
            PeerDown.
            Denied: also where fewer are listed than were told.
        """

        def search(**page: Any) -> list[Any]:  # noqa: ANN401 - as the client's
            return self._client.search_for_instances(study, fields=_FIELDS, **page)

        found = _looked("00080018", search, {})
        if len(found) < told:
            raise Denied(f"a study of {told} objects of which {len(found)} are listed")
        return [
            Instance(study, _value(answer, "0020000E"), uid)
            for uid, answer in found.items()
            if _value(answer, "00080016") in MODALITIES
        ]

    def fetch(self, one: Instance) -> bytes:
        """A file as it is stored there.

        Raises:
            PeerDown, Denied.
        """

        def fetched() -> bytes:
            kinds = (("application/dicom", "*"),)
            file = BytesIO()
            self._client.retrieve_instance(*one, media_types=kinds).save_as(
                file, enforce_file_format=True
            )
            return file.getvalue()

        return _asked(fetched)


def check_answer(response: "Response", *_: object, **__: object) -> None:
    """Refuses answers of something else than a DICOMweb service, such as the login page of a proxy.

    dicomweb-client would take a page for success, and follow to another server with what it sends.

    Raises:
        PeerDown.
    """
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().casefold()
    if response.is_redirect:
        raise PeerDown("sends us to another address; give that one")
    if response.ok and kind == "text/html":
        raise PeerDown("answers with a web page")
    if kind.endswith(("json", "xml")):  # which it compares with a charset and all
        response.headers["Content-Type"] = kind


def _looked(
    tag: str, search: Callable[..., list[Any]], filters: Mapping[str, str]
) -> dict[str, Any]:
    """All answers of a search by the UID in `tag`, page by page, until one has nothing new.

    Servers limit their pages differently, and some give the first one again and again.
    """
    found: dict[str, Any] = {}
    while True:
        given = {"limit": _PAGE, "offset": len(found), "search_filters": dict(filters)}
        new = {_value(one, tag): one for one in _asked(partial(search, **given))}
        new = {uid: one for uid, one in new.items() if uid and uid not in found}
        if not new:
            return found
        found |= new


def _asked(ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the client gives
    """The answer.

    Raises:
        PeerDown, Denied.
    """
    import requests

    try:
        return ask()
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in _DOWN or status >= 500 or not status:
            raise PeerDown(f"answers with HTTP status {status}") from None
        raise Denied(f"HTTP status {status}", status) from None
    except requests.RequestException:  # its text holds UIDs
        raise PeerDown("cannot be reached") from None
    except PeerDown:
        raise
    except Exception as error:  # of the client or pydicom; its text may quote the answer
        raise Denied(f"an answer that cannot be read ({type(error).__name__})") from None


def _value(answer: dict[str, Any], tag: str) -> str:
    return str((answer.get(tag, {}).get("Value") or [""])[0])


def _number(answer: dict[str, Any], tag: str) -> int:
    """Zero where it is not there, or is none."""
    text = _value(answer, tag)
    return int(text) if text.isdecimal() else 0
