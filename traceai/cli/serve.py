"""`traceai serve`: the API."""

from typing import Annotated

import typer

from traceai.cli.listening import listen
from traceai.cli.terminal import console, opened


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8765,
) -> None:
    """Serve the HTTP API until interrupted, sign a checkpoint every few seconds, and have the witnesses of the policy cosign it."""
    import uvicorn  # noqa: PLC0415

    from traceai.ledger.signing.signer import Heartbeat  # noqa: PLC0415
    from traceai.ledger.witnesses.witnessing import CosignedSizes, collect, require_vouched  # noqa: PLC0415
    from traceai_api.app import create_app  # noqa: PLC0415

    listening = listen(host, port)
    with opened() as trace, listening:
        console.print(f"traceai listens on http://{host}:{port}/v1 (description at /v1/openapi.json)", highlight=False)
        trace.recorder.start()
        app = create_app(trace)
        sizes = CosignedSizes(trace.settings.absolute_home / "witnesses.json")
        # A beat of its own: a witness that does not answer holds up no signature.
        with (
            Heartbeat(trace.checkpoint) as app.state.heartbeat,
            Heartbeat(
                lambda: require_vouched(collect(trace.signer, trace.checkpoint(), sizes)), failed="not witnessed"
            ) as app.state.witnessing,
        ):
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
