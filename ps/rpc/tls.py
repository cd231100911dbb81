"""What one end of an encrypted connection needs. Both ends show a certificate: mutual TLS. Standard library only."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """PEM of a process that serves shards or calls them.

    Attributes:
        key: its private key.
        certificate: its certificate, and those between it and the authority; a server's must hold the address at which
            it is called as a subject alternative name.
        authorities: the certificates of whoever signs the other end's.
    """

    key: bytes = field(repr=False)
    certificate: bytes
    authorities: bytes
