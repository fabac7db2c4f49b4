"""The door to a PACS by C-STORE, to a named peer."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgan.deployment.pacs.doors import TIMEOUT, Note, PeerDown, Unwanted, readable
from medgan.deployment.pacs.peers import Peer

if TYPE_CHECKING:
    from pynetdicom.association import Association

_NOT_ACCEPTED = Unwanted("the peer accepts no such objects")


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

        def kind(path: Path) -> tuple[str, str]:
            meta = read_file_meta_info(path)
            return meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID

        kinds = dict(readable(files, kind, note))
        if not kinds:
            return
        found = self._associated(set(kinds.values()))
        if not found.is_established:
            if found.rejected_contexts and not found.is_rejected:
                for path in kinds:
                    note(path, _NOT_ACCEPTED)
                return
            why = "rejects this AE title" if found.is_rejected else "cannot be reached"
            raise PeerDown(why)
        try:
            accepted = {context.abstract_syntax for context in found.accepted_contexts}
            for path, (sop_class, _) in kinds.items():
                note(path, _stored(found, path) if sop_class in accepted else _NOT_ACCEPTED)
        finally:
            found.release()

    def _associated(self, contexts: Iterable[tuple[str, str]]) -> "Association":
        """An association for classes and transfer syntaxes, whether or not the peer agreed to it.

        Raises:
            PeerDown: its name is not known at the moment.
        """
        from pynetdicom import AE

        ae = AE(ae_title=self._title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = TIMEOUT
        ae.connection_timeout = TIMEOUT
        for sop_class, syntax in sorted(contexts):
            ae.add_requested_context(sop_class, syntax)
        try:
            return ae.associate(self._peer.host, self._peer.port, ae_title=self._peer.title)
        except OSError:
            raise PeerDown("has no address that can be found") from None


def _stored(found: "Association", path: Path) -> str:
    """Sends an object, and says why it was refused; empty where it was stored.

    Raises:
        PeerDown: the peer broke off, or is full.
    """
    try:
        status = found.send_c_store(path).get("Status")
    except Exception as error:  # about the object, or since the peer has broken off
        if found.is_established:
            return f"it cannot be sent ({type(error).__name__})"
        status = None
    if status is None:
        raise PeerDown("broke off")
    if status & 0xFF00 == 0xA700:
        raise PeerDown(f"is out of resources (status 0x{status:04X})")
    return "" if status == 0 or status & 0xF000 == 0xB000 else f"status 0x{status:04X}"
