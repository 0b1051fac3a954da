"""A listening socket, or one clear sentence."""

import socket

from traceai.errors import InputError, PortTakenError


def listen(host: str, port: int) -> socket.socket:
    """Bind before anything else starts, so that a taken port leaves nothing half-started.

    Raises:
        InputError: `host` is no name or address that is known here.
        PortTakenError: the address is in use, not ours, or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"The host {host!r:.260} cannot be resolved ({getattr(error, 'strerror', None) or error}); give an address of this "
            "machine with --host."
        ) from error
    # A name may stand for several addresses; those of the older protocol are understood by everybody.
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise PortTakenError(
            f"Cannot listen on {host}:{port} ({error.strerror or error}); choose another with --host or --port."
        ) from error
    return listening
