"""pynetdicom's socket, mended."""

import socket

from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket


class MendedSocket(AssociationSocket):
    """An association's socket that sends at once and is always closed.

    With Nagle's algorithm and delayed ACK each object would take 40 ms longer. pynetdicom 3.0.4 leaves the
    descriptor open where the peer was never there or is already gone.
    """

    def _create_socket(self, address: AddressInformation) -> socket.socket:
        created: socket.socket = super()._create_socket(address)
        created.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return created

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect; a read of TLS that stops inside a record ends in time, which pynetdicom does not see to."""
        super().connect(primitive)
        if self.tls_args and self.socket is not None:
            self.socket.settimeout(self.assoc.network_timeout)

    def _shutdown_socket(self) -> None:
        descriptor = self.socket
        super()._shutdown_socket()
        if descriptor is not None:
            descriptor.close()
