"""`traceai data`: images with labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from traceai.cli.terminal import (
    ActorOption,
    JsonOption,
    actor_or_operator,
    console,
    errors,
    moment,
    opened,
    print_json,
    progress,
    table,
)  # fmt: skip
from traceai.data import store
from traceai.data.snapshot import Snapshot

app = typer.Typer(no_args_is_help=True)


@app.command("import")
def import_folder(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder per class, MVTec AD layout, or manifest.csv.")
    ],
    name: Annotated[str, typer.Option(help="What to call the data set.")],
    good: Annotated[
        str | None, typer.Option(help="The class that means a good part, where its name does not say so.")
    ] = None,
    actor: ActorOption = None,
) -> None:
    """Import a folder as a snapshot with a digest over every image and label."""
    from traceai.data.snapshot import take  # noqa: PLC0415

    with opened() as trace:
        with progress("reading", unit="images") as advance:
            snapshot = take(folder, name, good=good, progress=advance)
        with progress("keeping", unit="images") as advance, trace.database.session() as session:
            _, new = store.save(session, trace.blobs, snapshot, made_by=actor_or_operator(actor), progress=advance)
    print_snapshot(snapshot)
    if not new:
        console.print("The same data was imported under this name before; nothing was added.")
    for unreadable in snapshot.unreadable:
        errors.print(
            f"left out: {unreadable.path}: {unreadable.message} [{unreadable.code}]", style="yellow", markup=False
        )
    for leak in snapshot.leaks:
        what = {
            "group": "one group lies in several splits",
            "pixels": "one picture lies in several splits",
            "labels": "one picture has several labels",
        }[leak.kind]
        errors.print(f"check: {what}: {', '.join(leak.paths[:4])}", style="yellow", markup=False)
    if snapshot.unreadable:
        raise typer.Exit(2)


@app.command()
def show(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A data set; all of them where none is given.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what was imported."""
    with opened() as trace, trace.database.session() as session:
        rows = store.names(session) if name is None else [store.find(session, name)]
    if json:
        print_json([row.model_dump() for row in rows])
        return
    shown = table(
        "name",
        "digest",
        ">images",
        ">train",
        ">val",
        ">test",
        "imported (UTC)",
        "by",
        spare=("by", "test", "val", "train", "imported (UTC)"),
    )
    for row in rows:
        splits = (str(sum(row.counts[split].values())) for split in ("train", "val", "test"))
        shown.add_row(row.name, row.digest.hex()[:16], str(row.images), *splits, moment(row.occurred_at), row.made_by)
    console.print(shown)
    if name is not None:
        print_counts(rows[0].counts)


@app.command()
def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.")],
    count: Annotated[int, typer.Option(min=1, help="How many parts.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same parts.")] = 0,
    defect_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of defective parts.")] = 0.3,
    size: Annotated[int, typer.Option(help="Pixels along each side.")] = 256,
    lighting: Annotated[float, typer.Option(help="Relative brightness of the light.")] = 1.0,
    light_angle: Annotated[float, typer.Option(help="Where the light comes from, in degrees.")] = 125.0,
    camera_angle: Annotated[float, typer.Option(help="Tilt of the camera, in degrees; 0 looks straight down.")] = 8.0,
    noise: Annotated[float, typer.Option(help="Relative noise of the sensor.")] = 1.0,
) -> None:
    """Draw machined parts with known defects and exact masks."""
    from traceai.data.synth import Scene, write_dataset  # noqa: PLC0415

    scene = Scene(size=size, lighting=lighting, light_angle=light_angle, camera_angle=camera_angle, noise=noise)
    with progress("drawing", unit="parts") as advance:
        write_dataset(folder, count=count, seed=seed, defect_rate=defect_rate, scene=scene, progress=advance)
    console.print(
        f"{count} parts in {folder}. Next: traceai data import {folder} --name parts", markup=False, soft_wrap=True
    )


def print_snapshot(snapshot: Snapshot) -> None:
    console.print(
        f"{snapshot.name}: {len(snapshot.items)} images, digest {snapshot.digest}", markup=False, soft_wrap=True
    )
    print_counts(snapshot.counts())


def print_counts(counts: Mapping[Any, Mapping[str, int]]) -> None:
    shown = table("class", *(f">{split}" for split in counts))
    for name in next(iter(counts.values())):
        shown.add_row(name, *(str(counts[split][name]) for split in counts))
    console.print(shown)
