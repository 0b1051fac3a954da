"""The witness as a process of its own: `python -m traceai.cli.witness_process`, which `traceai ledger witness serve` becomes.

It imports no database driver, no torch, and nothing else that a witness does not need: what is not there cannot be attacked.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import uvicorn

from traceai.cli import sentence, streams
from traceai.cli.listening import listen
from traceai.errors import TraceaiError
from traceai.ledger.witnesses.home import WitnessHome, trusted
from traceai_api.witness import create_app

# Logs send a checkpoint every few seconds, over one connection where they can.
KEEP_ALIVE_SECONDS = 75


def main() -> None:
    """Serve until interrupted; exit 2 with one sentence where that cannot be."""
    with streams.guarded():
        try:
            serve(_arguments(sys.argv[1:]))
        except TraceaiError as error:
            sys.stderr.write(f"traceai: {sentence(error.message)} [{error.code}]\n")
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(0)


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="traceai ledger witness serve", allow_abbrev=False)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--log", action="append", required=True)
    parser.add_argument("--name")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8766)
    return parser.parse_args(given)


def serve(arguments: argparse.Namespace) -> None:
    logs = trusted(arguments.log)
    with listen(arguments.host, arguments.port) as listening:
        witness = WitnessHome(arguments.home.expanduser().absolute()).open(logs, arguments.name)
        port = listening.getsockname()[1]
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        print(f"key:  {witness.key.verifier}")
        for origin in logs:
            print(f"log:  {origin}, for monitors at /{sha256(origin.encode()).hexdigest()}/checkpoint")
        print(f"The witness {witness.key.name} listens on http://{host}:{port}", flush=True)
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
        config = uvicorn.Config(
            create_app(witness),
            log_level="warning",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            server_header=False,
            lifespan="off",
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
