"""A listening socket, or one clear sentence."""

import socket

from traceai.errors import PortTakenError


def listen(host: str, port: int) -> socket.socket:
    """Bind before anything else starts, so that a taken port leaves nothing half-started.

    Raises:
        PortTakenError: the address is in use, not ours, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise PortTakenError(
            f"Cannot listen on {host}:{port} ({error.strerror or error}); choose another with --port."
        ) from error
    return listening
