"""The service class provider: takes studies by C-STORE from known peers, and answers C-ECHO."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from medgan.core.errors import EnvironmentFailure
from medgan.data.dicom.decoder import NATIVE, PLUGINS
from medgan.data.dicom.files import DEFLATED, read_meta
from medgan.data.dicom.frames import MODALITIES
from medgan.deployment.pacs.peers import printable
from medgan.deployment.pacs.spool import Spool

if TYPE_CHECKING:
    from pynetdicom.events import Event

log = logging.getLogger(__name__)
SYNTAXES = (*NATIVE, *PLUGINS)
"""Transfer syntaxes that are accepted: those that can be decoded."""
OK, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
_ASSOCIATIONS = 100
"""Connections at a time; those that have not said who they are count, too."""
_FIRST_WORD = 5.0
"""Seconds in which a connection must say who calls."""
_TIMEOUT = 60.0
"""Seconds after which a silent peer is dropped."""
_TAGS = ("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID", "Manufacturer")


class Turned(NamedTuple):
    """Something that was turned away.

    Attributes:
        time: seconds since 1970.
        peer: AE title, printable.
        what: what was turned away, and why.
    """

    time: float
    peer: str
    what: str


class Listener:
    """Listens until it is closed.

    Args:
        spool: receives the files.
        title: own AE title; calls to another one are rejected.
        allowed: AE titles that may call.
        address: host and port.
        turned: receives what was turned away.

    Raises:
        EnvironmentFailure: E_PORT.
    """

    def __init__(
        self, spool: Spool, title: str, allowed: Sequence[str], address: tuple[str, int],
        turned: "deque[Turned]",
    ) -> None:  # fmt: skip
        from pynetdicom import AE, AllStoragePresentationContexts, evt
        from pynetdicom.sop_class import Verification  # pyright: ignore[reportAttributeAccessIssue]

        self._spool, self._allowed, self._title, self._turned = spool, allowed, title, turned
        ae = AE(ae_title=title)
        for context in AllStoragePresentationContexts:
            ae.add_supported_context(str(context.abstract_syntax), list(SYNTAXES))
        ae.add_supported_context(Verification)
        ae.require_calling_aet = list(allowed)
        ae.require_called_aet = True
        ae.maximum_associations = _ASSOCIATIONS
        ae.acse_timeout = _FIRST_WORD
        ae.dimse_timeout = ae.network_timeout = _TIMEOUT
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, lambda event: OK),
            (evt.EVT_REJECTED, self._rejected), (evt.EVT_ACCEPTED, self._accepted),
        ]  # fmt: skip
        try:
            self._server = ae.start_server(address, block=False, evt_handlers=handlers)
        except OSError as error:
            why = (error.strerror or "unknown").lower()
            raise EnvironmentFailure(
                "E_PORT", f"port {address[1]}", f"cannot be used ({why})",
                "give another with --port, or stop what uses it",
            ) from None  # fmt: skip
        assert self._server is not None
        self._ae = ae

    @property
    def port(self) -> int:
        """Where it listens; that of the system's choice where 0 was given."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Ends all associations; what was answered with success is kept."""
        self._ae.shutdown()

    def _store(self, event: "Event") -> int:
        import pydicom

        peer = printable(event.assoc.requestor.ae_title)
        try:
            data = event.encoded_dataset()
            if read_meta(BytesIO(data)).get("TransferSyntaxUID") == DEFLATED:
                raise ValueError  # said in the data set itself, against what was agreed on
            header = pydicom.dcmread(
                BytesIO(data), stop_before_pixels=True, specific_tags=list(_TAGS)
            )
            study, instance = str(header.StudyInstanceUID), str(header.SOPInstanceUID)
            own = str(header.get("Manufacturer", "")) == "medgan"
            own = own and str(header.SOPClassUID) not in MODALITIES
            if not (study and instance):
                raise ValueError
        except Exception:  # pydicom's, of any kind; its text may quote the header
            self._turn(peer, "a file without a readable header")
            return CANNOT_UNDERSTAND
        if own:  # results that a rule of the PACS sends on, back to where they came from
            return OK
        try:
            self._spool.store(study, instance, data)
        except EnvironmentFailure as error:
            self._turn(peer, f"a file, since it could not be written ({error.what})")
            return OUT_OF_RESOURCES
        return OK

    def _rejected(self, event: "Event") -> None:
        request = event.assoc.requestor
        calling, called = printable(request.ae_title), printable(event.assoc.acceptor.ae_title)
        primitive = getattr(request, "primitive", None)
        if primitive is not None:
            called = printable(str(primitive.called_ae_title))
        if calling not in self._allowed:
            why = "its AE title is not allowed (--allow)"
        elif called != self._title:
            why = f"it called {called}, not {self._title}"
        else:
            why = "too many peers at a time"
        self._turn(calling, f"an association: {why}")

    def _accepted(self, event: "Event") -> None:
        accepted = {context.abstract_syntax for context in event.assoc.accepted_contexts}
        lost = {
            context.abstract_syntax
            for context in event.assoc.rejected_contexts
            if context.abstract_syntax not in accepted
        }
        names = sorted(_name(uid) for uid in lost)
        if names:
            peer = printable(event.assoc.requestor.ae_title)
            self._turn(peer, f"no transfer syntax that is read (E_SYNTAX): {', '.join(names[:5])}")

    def _turn(self, peer: str, what: str) -> None:
        log.warning("turned away from %s: %s", peer, what)
        self._turned.append(Turned(time.time(), peer, what))


def _name(uid: object) -> str:
    """The standard's name of a class; an unknown one is not printed."""
    from pydicom.uid import UID

    name = UID(str(uid)).name
    return "a private class" if name == str(uid) else name
