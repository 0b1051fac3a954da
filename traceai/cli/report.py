"""`traceai report`: PDFs."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from traceai.cli.files import published
from traceai.cli.filters import FromOption, LotOption, ModelOption, ProductOption, StationOption, ToOption, filter_of
from traceai.cli.terminal import ActorOption, actor_or_operator, console, opened
from traceai.errors import InputError, TraceaiError
from traceai.inspection.history import Filter
from traceai.sdk import Trace

app = typer.Typer(no_args_is_help=True)
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Where to write the PDF.")]
ForOption = Annotated[str, typer.Option("--for", help="Whom the report is made for; printed on it.")]


@app.command()
def audit(
    out: OutOption,
    since: FromOption = None,
    until: ToOption = None,
    station: StationOption = None,
    model: ModelOption = None,
    lot: LotOption = None,
    product: ProductOption = None,
    produced_for: ForOption = "",
    title: Annotated[str, typer.Option(help="Title of the report.")] = "Inspection audit report",
    actor: ActorOption = None,
) -> None:
    """Report on a period, a lot, a station or a model: decisions, rates, lineage, verified errors, ledger."""
    wanted = filter_of(None, lot, product, station, model, None, since, until)
    with opened() as trace:
        digest = write_audit(trace, wanted, out, actor_or_operator(actor), title, produced_for)
    told(out, digest)


@app.command()
def decision(
    reference: Annotated[str, typer.Argument(metavar="ID", help="The decision's id, or its ledger index.")],
    out: OutOption,
    produced_for: ForOption = "",
    actor: ActorOption = None,
) -> None:
    """Report on one decision: image, heat map, hashes, model version and lineage, reviews."""
    with opened() as trace:
        digest = write_decision(trace, reference, out, actor_or_operator(actor), produced_for)
    told(out, digest)


def write_audit(trace: Trace, wanted: Filter, out: Path, actor: str, title: str, produced_for: str = "") -> str:
    """Write the PDF, enter its digest in the ledger, return the digest.

    Raises:
        InputError: `out` cannot become the PDF; then nothing is recorded.
    """
    from traceai_reports import audit_report, evidence  # noqa: PLC0415  # reportlab takes a while to import

    _require_replaceable(out)
    _sign(trace)
    about = evidence.issue(actor, produced_for)
    found = evidence.audit(trace, wanted, about, title)
    with published(out) as unfinished:
        digest = audit_report(found, unfinished)
        evidence.record_issue(trace, "audit", digest, wanted.describe(), about)
    return digest


def write_decision(trace: Trace, reference: str, out: Path, actor: str, produced_for: str = "") -> str:
    """Write the PDF, enter its digest in the ledger, return the digest.

    Raises:
        InputError: `out` cannot become the PDF; then nothing is recorded.
        DecisionNotFoundError, RecordError: see `evidence.decision`.
    """
    from traceai_reports import decision_report, evidence  # noqa: PLC0415

    _require_replaceable(out)
    _sign(trace)
    about = evidence.issue(actor, produced_for)
    found = evidence.decision(trace, reference, about)
    with published(out) as unfinished:
        digest = decision_report(found, unfinished)
        evidence.record_issue(trace, "decision", digest, {"inspection_id": found.id}, about)
    return digest


def _require_replaceable(out: Path) -> None:
    """The digest is on record before the PDF takes its place, so whatever can be known to be in its way is refused first.

    Raises:
        InputError: `out` is a folder or a device, or somebody else's file where only its owner may replace it.
    """
    try:
        found, folder = out.lstat(), out.parent.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another file.") from error
    if out.is_dir():
        raise InputError(f"{out} is a folder; name the PDF, such as {out / 'report.pdf'}.")
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        raise InputError(f"{out} is no file that a PDF could replace; choose another name.")
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in {0, found.st_uid, folder.st_uid}:
        raise InputError(f"{out} is somebody else's file, and only its owner may replace it; choose another name.")


def _sign(trace: Trace) -> None:
    """Have a checkpoint that covers what the report says, where this home can sign; where it cannot, the report says so."""
    with suppress(TraceaiError):
        trace.checkpoint()


def told(out: Path, digest: str) -> None:
    console.print(f"{out}", markup=False, soft_wrap=True)
    console.print(f"sha256 {digest} is entered in the ledger.", style="dim", soft_wrap=True)
