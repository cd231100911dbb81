"""`Tls`: one end's key and certificates for mutual TLS. Standard library only."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """The PEM data of a process that serves shards or calls them.

    Attributes:
        key: its private key.
        certificate: its certificate, followed by the intermediate ones; a server's must have the address at which
            clients call it as a subject alternative name.
        authorities: the certificates of the authorities that sign the other end's certificate.
    """

    key: bytes = field(repr=False)
    certificate: bytes
    authorities: bytes
