"""`traceai decision`: search, show, explain, replay."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from traceai.cli.files import write_file
from traceai.cli.filters import (
    FromOption,
    LotOption,
    ModelOption,
    ProductOption,
    SerialOption,
    StationOption,
    ToOption,
    VerdictOption,
    filter_of,
)  # fmt: skip
from traceai.cli.replay import explain_now, replay
from traceai.cli.terminal import JsonOption, console, moment, opened, print_facts, print_json, table, verdict_text
from traceai.db.tables import Inspection
from traceai.errors import BlobMissingError, InputError
from traceai.explain.catalogue import METHODS
from traceai.explain.catalogue import find as find_method
from traceai.inspection import history
from traceai.inspection.history import Dossier

app = typer.Typer(no_args_is_help=True)
app.command()(replay)
Reference = Annotated[str, typer.Argument(metavar="ID", help="The decision's id, or its ledger index.")]


@app.command("list")
def list_decisions(
    serial: SerialOption = None,
    lot: LotOption = None,
    product: ProductOption = None,
    station: StationOption = None,
    model: ModelOption = None,
    verdict: VerdictOption = None,
    since: FromOption = None,
    until: ToOption = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20,
    after: Annotated[str | None, typer.Option(help="`next` of the page before.")] = None,
    json: JsonOption = False,
) -> None:
    """Search decisions, newest first."""
    wanted = filter_of(serial, lot, product, station, model, verdict, since, until)
    with opened() as trace, trace.database.session() as session:
        page = history.search(session, wanted, limit=limit, after=after)
        found = history.entries(session, page.rows)
    if json:
        print_json({"items": [_summary(row) for row, _ in found], "next": page.next})
        return
    shown = table(
        ">index", "id", "when (UTC)", "station", "serial", "lot", "model", "verdict", ">score", "evidence for",
        spare=("evidence for", "model", "station", "score", "lot", "when (UTC)", "serial"),
    )  # fmt: skip
    for row in page.rows:
        shown.add_row(
            str(row.journal_index),
            str(row.id),
            moment(row.occurred_at),
            f"{row.station} #{row.station_seq}",
            row.serial or "",
            row.lot or "",
            f"{row.model_name}@{row.model_version}",
            verdict_text(row.verdict),
            "" if row.defect_score is None else f"{row.defect_score:.4f}",
            row.explanation_target or row.failure_code or "",
        )
    console.print(shown)
    if page.next:
        console.print(f"More: add --after {page.next}", style="dim")


@app.command()
def show(reference: Reference, json: JsonOption = False) -> None:
    """Show one decision: what was seen, which version decided, why, and who approved it."""
    with opened() as trace, trace.database.session() as session:
        row = history.find(session, reference)
        dossier = history.dossier(session, row)
    if json:
        print_json(detail(dossier))
        return
    for title, facts in sections(dossier).items():
        print_facts(facts, title=title)
        console.print()


@app.command()
def explain(
    reference: Reference,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the PNG.")],
    method: Annotated[
        str | None,
        typer.Option(
            help=f"Replay it and explain it now, with one of {', '.join(METHODS)}. Default: what is on record."
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="The layer that grad-cam looks at. Default: the recorded one.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Draw the recorded explanation beside its image, or another one that is made now and says so."""
    if method is not None:
        explain_now(reference, out, find_method(method).name, layer, json=json)
        return
    if layer is not None:
        raise InputError("The recorded explanation has its layer; to look at another, add --method grad-cam.")
    from traceai.inspection.picture import explanation_png  # noqa: PLC0415  # Pillow and numpy

    with opened() as trace, trace.database.session() as session:
        row = history.find(session, reference)
        if row.image_sha256 is None:
            raise BlobMissingError(f"Inspection {row.id} failed before an image was read, so there is none to show.")
        image = trace.blobs.get(row.image_sha256.hex())
        picture = explanation_png(history.dossier(session, row), image, trace.blobs)
    write_file(out, picture)
    if json:
        print_json(
            {
                "id": str(row.id),
                "made_afterwards": False,
                "method": row.explanation_method,
                "layer": row.explanation_layer,
                "target": row.explanation_target,
                "out": str(out),
            }
        )
        return
    console.print(f"{out}: the evidence for {row.explanation_target}.", markup=False, soft_wrap=True)


def _summary(row: Inspection) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "index": row.journal_index,
        "occurred_at": row.occurred_at,
        "station": row.station,
        "station_seq": row.station_seq,
        "product": row.product,
        "serial": row.serial,
        "lot": row.lot,
        "view": row.view,
        "model": f"{row.model_name}@{row.model_version}",
        "verdict": row.verdict,
        "failure_code": row.failure_code,
        "predicted": row.predicted,
        "defect_score": row.defect_score,
        "image_sha256": row.image_sha256,
        "audit_drawn": row.audit_drawn,
    }


def detail(dossier: Dossier) -> dict[str, Any]:
    """The decision as JSON: the recorded fields and everything that belongs to them."""
    model = dossier.model
    return {
        "record": dossier.entry.record.model_dump(mode="json"),
        "recorded_at": dossier.entry.recorded_at,
        "ledger": {"index": dossier.row.journal_index, "leaf_hash": dossier.leaf_hash},
        "model": model and model.model_dump(exclude={"id"}),
        "model_events": [event.model_dump(exclude={"id"}) for event in dossier.events],
        "snapshot": dossier.snapshot and dossier.snapshot.model_dump(exclude={"id"}),
        "runtime": dossier.runtime and dossier.runtime.environment,
        "reviews": [review.model_dump() for review in dossier.reviews],
    }


def sections(dossier: Dossier) -> Mapping[str, Mapping[str, Any]]:
    row = dossier.row
    decision: dict[str, Any] = {"verdict": verdict_text(row.verdict)}
    if row.verdict is None:
        decision |= {"failure": f"{row.failure} [{row.failure_code}]", "source": row.source}
    else:
        decision |= {
            "defect score": "not defined: the model has no good class"
            if row.defect_score is None
            else row.defect_score,
            "operating point": _operating_point(row.pass_below, row.reject_at),
            "predicted": row.predicted,
            "scores": ", ".join(f"{name} {score}" for name, score in (row.scores or {}).items()),
        }
    decision |= {
        "station": f"{row.station} #{row.station_seq}"
        + (f", trigger {row.trigger}" if row.trigger is not None else ""),
        "occurred (UTC)": row.occurred_at.isoformat(),
        "part": ", ".join(
            f"{name} {value}"
            for name in ("product", "serial", "lot", "view")
            if (value := getattr(row, name)) is not None
        )
        or None,
    }
    shown: dict[str, dict[str, Any]] = {
        f"Decision {row.id}": decision,
        "Image": {
            "sha256": row.image_sha256.hex() if row.image_sha256 else None,
            "pixels sha256": row.pixel_sha256.hex() if row.pixel_sha256 else None,
            "size": f"{row.image_width} x {row.image_height}, {row.image_bytes} bytes, {row.image_media_type}"
            if row.pixel_sha256
            else None,
        },
    }
    if row.verdict is not None:
        residual = row.explanation_residual
        shown["Explanation"] = {
            "evidence for": row.explanation_target,
            "method": f"{row.explanation_method} at {row.explanation_layer}, "
            f"{row.explanation_height} x {row.explanation_width} cells",
            "range": f"{row.explanation_min} to {row.explanation_max}, sum {row.explanation_sum}",
            "completeness": "not defined for this head" if residual is None else f"sum + bias - logit = {residual}",
            "degenerate": Text("YES: it explains nothing", style="bold red") if row.explanation_degenerate else "no",
            "sha256": row.explanation_sha256.hex() if row.explanation_sha256 else None,
        }
    shown["Model"] = _model(dossier)
    if row.audit_drawn is not None:
        shown["Verification"] = {
            "audit draw": f"{'drawn' if row.audit_drawn else 'not drawn'} (probability {row.audit_probability}, "
            f"stratum {row.audit_stratum})",
            **{
                f"review {n}": f"{review.truth}"
                + (f", {review.defect_type}" if review.defect_type else "")
                + f", by {review.reviewer}"
                + (" (SIMULATED)" if review.source == "simulated" else "")
                + f", {moment(review.occurred_at)}"
                for n, review in enumerate(dossier.reviews, 1)
            },
        }
    shown["Ledger"] = {
        "index": row.journal_index,
        "leaf hash": dossier.leaf_hash.hex(),
        "recorded (UTC)": row.recorded_at.isoformat(),
    }
    return shown


def _operating_point(pass_below: float | None, reject_at: float | None) -> str:
    if pass_below is None or reject_at is None:
        return "none: every verdict is undecided"
    return f"pass below {pass_below}, reject from {reject_at}"


def _model(dossier: Dossier) -> dict[str, Any]:
    row, model = dossier.row, dossier.model
    approval, activation = dossier.standing("approve"), dossier.standing("activate")
    waived = dossier.standing("waive")
    facts: dict[str, Any] = {
        "version": f"{row.model_name}@{row.model_version}",
        "digest": row.model_digest.hex(),
        "approved": f"by {approval.actor}, {moment(approval.occurred_at)}: {approval.reason}"
        if approval
        else Text("NOT APPROVED when it decided", style="bold red"),
        **({"waived": f"by {waived.actor}, {moment(waived.occurred_at)}: {waived.reason}"} if waived else {}),
        "activated": f"by {activation.actor}, {moment(activation.occurred_at)}" if activation else None,
    }
    if model is not None:
        facts |= {
            "made by": f"{model.made_by}, {moment(model.occurred_at)}",
            "trained on": model.snapshot_name
            and f"{model.snapshot_name} {model.snapshot_digest.hex() if model.snapshot_digest else ''}",
        }
    return facts
