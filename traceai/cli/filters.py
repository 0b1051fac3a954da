"""The options that select decisions, the same for every command that has them."""

from typing import Annotated

import typer

from traceai.cli.terminal import parse_moment
from traceai.errors import InputError
from traceai.inspection.history import Filter

SerialOption = Annotated[str | None, typer.Option(help="Serial number of the part.")]
LotOption = Annotated[str | None, typer.Option(help="Lot.")]
ProductOption = Annotated[str | None, typer.Option(help="Product.")]
StationOption = Annotated[str | None, typer.Option(help="Station.")]
ModelOption = Annotated[str | None, typer.Option(metavar="NAME[@V]", help="Model, or one version of it.")]
VerdictOption = Annotated[str | None, typer.Option(help="pass, reject, undecided or failed.")]
FromOption = Annotated[str | None, typer.Option("--from", help="First moment, such as 2026-01-31 (UTC).")]
ToOption = Annotated[str | None, typer.Option("--to", help="First moment that no longer counts.")]


def model_of(reference: str | None) -> tuple[str | None, int | None]:
    """Raises:
    InputError: what follows the @ is no number.
    """
    if reference is None:
        return None, None
    name, at, number = reference.rpartition("@")
    if not at:
        return reference, None
    if not (number.isascii() and number.isdigit()) or int(number) >= 2**31:
        raise InputError(f"{reference} names no version; write it as NAME@3.")
    return name, int(number)


def filter_of(
    serial: str | None,
    lot: str | None,
    product: str | None,
    station: str | None,
    model: str | None,
    verdict: str | None,
    since: str | None,
    until: str | None,
) -> Filter:
    name, version = model_of(model)
    return Filter(
        serial=serial,
        lot=lot,
        product=product,
        station=station,
        model=name,
        version=version,
        verdict=verdict,
        since=parse_moment(since, "--from"),
        until=parse_moment(until, "--to"),
    )
