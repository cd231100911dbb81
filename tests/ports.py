"""Ports for servers that a test starts in another process, or starts again at the same address."""

import os
import random
import socket

_FIRST, _LAST = 20_000, 31_999
"""Below the ports that the kernel gives to clients and to servers that leave the choice to it, above those of Ray's
workers."""

_BLOCKS = 4
_given: set[int] = set()


def free_port() -> int:
    """Return a port of the loopback that is free, and that no other call has returned.

    A port that the kernel chose and a test has closed again may be given to the next one who asks before the server
    listens; none of these can be, and the processes of one pytest run have different ones.
    """
    size = (_LAST - _FIRST + 1) // _BLOCKS
    first = _FIRST + size * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % _BLOCKS)
    ports = list(range(first, first + size))
    random.SystemRandom().shuffle(ports)  # other pytest runs on this machine begin elsewhere
    for port in ports:
        if port in _given:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        _given.add(port)
        return port
    raise OSError(f"no port from {first} to {first + size - 1} is free")
