"""`traceai demo`: the whole story, from images to a verified audit PDF, on parts drawn here or on your own images.

Everything in it goes the way of the real thing and stays in the ledger of TRACEAI_HOME. Only people are played: whatever
a person would have said is marked as simulated, in the ledger and in every report.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.rule import Rule
from rich.text import Text

from traceai.cli import rates as rates_cli
from traceai.cli.ledger import print_outcome, sign_off
from traceai.cli.terminal import console, opened, print_facts, progress
from traceai.data.snapshot import SnapshotItem
from traceai.db.tables import ModelVersion
from traceai.errors import AlreadyExistsError, DatasetError, InputError
from traceai.inspection.decision import Decision
from traceai.inspection.history import Filter
from traceai.ledger.canonical import LARGEST_INTEGER
from traceai.sdk import Trace

ENGINEER, APPROVER, REVIEWER = "demo engineer", "demo approver (simulated)", "demo reviewer (simulated)"
# Passes are drawn with this probability. In production one in twenty is usual; a demo has too few parts for that.
PASS_AUDIT = 0.25
LOT_SIZE = 50
DEMO_PARTS, DEMO_SEED = 1000, 20


def demo(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Your own images; parts are drawn where none are given.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where parts and PDFs go.")] = Path("traceai-demo"),
    steps: Annotated[
        int,
        typer.Option(min=1, max=LARGEST_INTEGER, help="Optimiser steps of the training; fewer are quicker and worse."),
    ] = 1200,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_INTEGER)] = 0,
) -> None:
    """Show everything once: import, train, approve, inspect, review, rates, reports, verification."""
    started = time.monotonic()
    if data is not None and not data.is_dir():
        raise InputError(f"There is no folder {data}; give one with images, or leave --data out to draw parts.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be created ({error.strerror}); choose another folder with --out.") from error
    with opened() as trace:
        _Story(trace, out, steps, seed).tell(data)
    console.print(f"Done in {_duration(time.monotonic() - started)}.", style="bold")


class _Story:
    def __init__(self, trace: Trace, out: Path, steps: int, seed: int) -> None:
        self.trace, self.out, self.steps, self.seed = trace, out, steps, seed

    def tell(self, data: Path | None) -> None:
        with _chapter(1, "Images"):
            name, held_out = self._images(data)
        with _chapter(2, "Model"):
            version = self._model(name)
        station = self._station(name)
        with _chapter(3, "Inspection"):
            decisions = self._inspect(version, station, held_out, name)
        with _chapter(4, "Ground truth, by a SIMULATED reviewer"):
            self._review(decisions, held_out, station)
        wanted = Filter(station=station, model=version.name, version=version.version)
        with _chapter(5, "How often is it wrong?"):
            self._rates(wanted)
        with _chapter(6, "Reports"):
            shown = self._reports(wanted, decisions, held_out)
        with _chapter(7, "Does the evidence hold?"):
            holds = self._verify()
        self._next(version, shown)
        if not holds:
            raise typer.Exit(1)

    # --- 1 --------------------------------------------------------------------------------------------------------

    def _images(self, data: Path | None) -> tuple[str, tuple[SnapshotItem, ...]]:
        from traceai.data import store  # noqa: PLC0415
        from traceai.data.snapshot import take  # noqa: PLC0415
        from traceai.data.synth import write_dataset  # noqa: PLC0415
        from traceai.models.partition import partition  # noqa: PLC0415

        if data is None:
            data, name = self.out / "parts", "demo-parts"
            if data.exists():
                console.print(f"Using the parts in {data}, drawn earlier.", markup=False)
            else:
                console.print(
                    "Drawing machined parts: synthetic, with scratches, dents, cracks, missing pieces, stains."
                )
                splits = {"train": 0.55, "val": 0.15, "test": 0.3}
                with progress("drawing", unit="parts") as advance:
                    write_dataset(
                        data, count=DEMO_PARTS, seed=DEMO_SEED, splits=splits, lighting_spread=0.25, camera_jitter=2.0,
                        progress=advance,
                    )  # fmt: skip
        else:
            name = (
                "".join(c if c.isalnum() or c in "._-" else "-" for c in data.resolve().name.lower()).strip("._-")
                or "data"
            )
        with progress("importing", unit="images") as advance:
            snapshot = take(data, name, progress=advance)
        with self.trace.database.session() as session:
            store.save(session, self.trace.blobs, snapshot, made_by=ENGINEER)
        parts = partition(snapshot)
        print_facts(
            {
                "snapshot": f"{name}, {len(snapshot.items)} images",
                "digest": snapshot.digest,
                "classes": ", ".join(snapshot.classes()),
                "split by group": f"{len(parts.fit)} to learn from, {len(parts.calibrate)} to set the operating point, "
                f"{len(parts.evaluate)} held out",
            }
        )
        for left_out in snapshot.unreadable:
            console.print(f"left out: {left_out.path}: {left_out.message}", style="yellow", markup=False)
        if not parts.evaluate:
            raise DatasetError(f"{data} leaves no images to hold out; give more groups.")
        return name, parts.evaluate

    # --- 2 --------------------------------------------------------------------------------------------------------

    def _model(self, name: str) -> ModelVersion:
        from traceai.cli.judging import measure_and_record, print_evaluation, print_explanations  # noqa: PLC0415
        from traceai.cli.model import train_and_register  # noqa: PLC0415
        from traceai.models import registry  # noqa: PLC0415
        from traceai.models.training_settings import TrainingSettings  # noqa: PLC0415

        settings = TrainingSettings(seed=self.seed, steps=self.steps)
        version, evaluation = train_and_register(self.trace, name, name, settings, ENGINEER)
        print_evaluation(evaluation)
        explained = measure_and_record(self.trace, version, ENGINEER)
        print_explanations(explained["measures"], explained["randomisation"])
        waiver = "SIMULATED waiver for a demonstration." if explained["randomisation"] != "gone" else None
        reason = f"SIMULATED approval for a demonstration, on {evaluation.images} held-out images."
        with self.trace.database.session() as session:
            registry.approve(session, version, actor=APPROVER, reason=reason, waiver=waiver)
            registry.activate(session, version, actor=APPROVER)
        print_facts(
            {
                "version": f"{version.name}@{version.version}",
                "digest": version.digest.hex(),
                "operating point": "none: every verdict is undecided"
                if version.pass_below is None
                else f"pass below {version.pass_below}, reject from {version.reject_at}",
                "approved by": APPROVER,
            }
        )
        return version

    def _station(self, name: str) -> str:
        station = f"{name}-line"
        with suppress(AlreadyExistsError):  # an earlier demo made it
            self.trace.add_station(station, audit_pass_probability=PASS_AUDIT)
        return station

    # --- 3 --------------------------------------------------------------------------------------------------------

    def _inspect(
        self, version: ModelVersion, station: str, held_out: Sequence[SnapshotItem], product: str
    ) -> list[Decision]:
        from traceai.inspection.reading import Item  # noqa: PLC0415

        inspector = self.trace.inspector(f"{version.name}@{version.version}", station, actor=ENGINEER)
        items = (
            Item(
                self.trace.blobs.get(item.sha256),
                name=item.path,
                product=product,
                serial=f"SN-{number:05}",
                lot=f"L{1 + (number - 1) // LOT_SIZE:02}",
            )
            for number, item in enumerate(held_out, 1)
        )
        decisions: list[Decision] = []
        began = time.monotonic()
        with progress("inspecting", unit="parts") as advance:
            for decision in inspector.inspect_many(items):
                decisions.append(decision)
                advance(len(decisions), len(held_out))
        took = time.monotonic() - began
        shown = {
            verdict: sum(1 for decision in decisions if decision.verdict == verdict)
            for verdict in ("pass", "undecided", "reject", None)
        }
        print_facts(
            {
                "recorded": f"{len(decisions)} parts it never saw, {len(decisions) / took:.0f} a second, each with its explanation",
                "verdicts": ", ".join(f"{count} {verdict or 'failed'}" for verdict, count in shown.items() if count),
                "drawn for audit": f"{sum(1 for d in decisions if d.audit and d.audit.drawn)} (every reject and undecided part, "
                f"{PASS_AUDIT:.0%} of the passes at random)",
            }
        )
        return decisions

    # --- 4 --------------------------------------------------------------------------------------------------------

    def _review(self, decisions: Sequence[Decision], held_out: Sequence[SnapshotItem], station: str) -> None:
        from traceai.inspection import history  # noqa: PLC0415
        from traceai.review import verdicts  # noqa: PLC0415

        truth = {decision.id: item for decision, item in zip(decisions, held_out, strict=True)}
        with self.trace.database.session() as session:
            findings = []
            for decision in decisions:
                if decision.audit is None or not decision.audit.drawn:
                    continue
                item = truth[decision.id]
                findings.append(
                    verdicts.Finding(
                        history.find(session, decision.id),
                        "good" if item.label == "good" else "defective",
                        item.defect_type or None,
                        "Simulated: the label the image came with.",
                    )
                )
            verdicts.add_many(session, findings, reviewer=REVIEWER, simulated=True)
        console.print(
            f"{len(findings)} drawn parts were 'verified' by looking up the label they came with. Every one of these reviews "
            "is marked SIMULATED, in the ledger and in the reports; a person takes this place in production."
        )

    # --- 5 to 7 ---------------------------------------------------------------------------------------------------

    def _rates(self, wanted: Filter) -> None:
        from traceai.review import rates  # noqa: PLC0415

        with self.trace.database.session() as session:
            for report in rates.rates(session, wanted):
                rates_cli.print_report(report)

    def _reports(self, wanted: Filter, decisions: Sequence[Decision], held_out: Sequence[SnapshotItem]) -> str:
        from traceai.cli.report import write_audit, write_decision  # noqa: PLC0415

        chosen = _telling(decisions, held_out)
        audit, decision = self.out / "audit.pdf", self.out / "decision.pdf"
        write_audit(self.trace, wanted, audit, ENGINEER, "Inspection audit report (demonstration)")
        write_decision(self.trace, chosen, decision, ENGINEER)
        print_facts({"audit": str(audit), "decision": str(decision)})
        return chosen

    def _verify(self) -> bool:
        from traceai.ledger.verification.auditing import audit  # noqa: PLC0415

        sign_off(self.trace)
        with progress("verifying", unit="entries") as advance:
            outcome = audit(self.trace.signer, self.trace.blobs, advance)
        print_outcome(outcome)
        return outcome.holds

    def _next(self, version: ModelVersion, shown: str) -> None:
        console.print(Text("Try next", style="bold"))
        for command in (
            f"traceai decision show {shown}",
            f"traceai decision explain {shown} -o why.png",
            "traceai decision list --verdict reject",
            f"traceai rates --model {version.name} --by lot",
            f"traceai ledger prove {shown} -o decision.evidence.json && traceai verify decision.evidence.json",
            "traceai user add alice --role auditor && traceai token create --user alice",
            "traceai serve",
            "traceai db start   # then change a row with psql, and:",
            "traceai ledger verify",
        ):
            console.print(f"  {command}", markup=False, soft_wrap=True)
        console.print()


def _telling(decisions: Sequence[Decision], held_out: Sequence[SnapshotItem]) -> str:
    """The decision to show: a defect that was found with the highest score; without one, the first decision."""
    found = [
        decision
        for decision, item in zip(decisions, held_out, strict=True)
        if decision.verdict in {"reject", "undecided"} and item.label == "defect"
    ]
    return max(found or decisions[:1], key=lambda decision: decision.defect_score or 0.0).id


@contextmanager
def _chapter(number: int, title: str) -> Iterator[None]:
    console.print()
    heading = Rule(Text(f"{number}. {title}", style="bold"), align="left", characters="-")
    console.print(heading, width=min(console.width, 80))
    began = time.monotonic()
    yield
    console.print(f"({_duration(time.monotonic() - began)})", style="dim")


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
