"""`traceai serve`: the API."""

import socket
from typing import Annotated

import typer

from traceai.cli.terminal import console, opened
from traceai.errors import PortTakenError


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8765,
) -> None:
    """Serve the HTTP API until interrupted."""
    import uvicorn  # noqa: PLC0415

    from traceai_api.app import create_app  # noqa: PLC0415

    listening = _listen(host, port)
    with opened() as trace, listening:
        console.print(f"traceai listens on http://{host}:{port}/v1 (description at /v1/openapi.json)", highlight=False)
        uvicorn.Server(uvicorn.Config(create_app(trace), log_level="warning")).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
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
