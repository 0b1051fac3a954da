"""What the entries of an evidence file say about its decision: each claim a fact that holds, does not, or was not checked.

Every entry that comes here is a valid record and was proved to be in the same tree as the decision.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from traceai.ledger.evidence import strict_json
from traceai.ledger.printing import shown

DECIDED = "inspection/1"
FAILED = "inspection-failed/1"


@dataclass(frozen=True)
class Fact:
    """One thing that was looked at. holds: None where it could not be checked; the sentence says why."""

    name: str
    holds: bool | None
    sentence: str


@dataclass(frozen=True)
class Entry:
    """An entry by its place, its leaf hash and its fields."""

    index: int
    leaf: bytes
    fields: dict[str, Any]

    @property
    def schema(self) -> str:
        return str(self.fields["schema"])

    @property
    def kind(self) -> str:
        """What it is called in a sentence."""
        return kind(self.fields)


def kind(fields: dict[str, Any]) -> str:
    """A failed attempt is no decision: it decided nothing."""
    return "attempt" if fields["schema"] == FAILED else "decision"


def of(schema: str, entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.schema == schema]


def claims(decision: Entry, related: Sequence[Entry]) -> list[Fact]:
    """All that the entries of a file say about `decision`; `related` in ledger order."""
    return [
        verdict(decision),
        model(decision, of("model-version/1", related)),
        approval(decision, of("model-version/1", related), of("model-event/1", related)),
        environment(decision, of("runtime/1", related), of("model-export/1", related)),
        data(decision, of("model-version/1", related), of("dataset-snapshot/1", related)),
        reviews(decision, of("review/1", related)),
    ]


def verdict(decision: Entry) -> Fact:
    """The rule of `docs/record-format.md`, inspection/1."""
    name, fields = "verdict", decision.fields
    if decision.schema == FAILED:
        code = shown(fields["failure_code"])
        return Fact(name, None, f"The attempt came to no verdict ({code}), and such an attempt passes no part.")
    score, point, recorded = fields["defect_score"], fields["operating_point"], fields["verdict"]
    if score is None or point is None:
        follows, why = "undecided", "there is no defect score or no threshold"
    elif Decimal(score) < Decimal(point["pass_below"]):
        follows, why = "pass", f"its defect score {shown(score)} is below {shown(point['pass_below'])}"
    elif Decimal(score) >= Decimal(point["reject_at"]):
        follows, why = "reject", f"its defect score {shown(score)} is not below {shown(point['reject_at'])}"
    else:
        follows, why = "undecided", f"its defect score {shown(score)} is between the thresholds"
    if recorded != follows:
        return Fact(name, False, f"The recorded verdict is {recorded}, but {why}: it had to be {follows}.")
    return Fact(name, True, f"The verdict {recorded} follows from the record: {why}.")


def model(decision: Entry, versions: Sequence[Entry]) -> Fact:
    name, used = "model", decision.fields["model"]
    called, kind = _called(used), decision.kind
    did = "decided" if kind == "decision" else "was to decide"
    found = _version(decision, versions)
    if found is None:
        return Fact(name, False, f"The file does not hold the registration of {called}, the version that {did}.")
    registered = found.fields
    if registered["model"]["digest"] != used["digest"]:
        return Fact(
            name, False,
            f"Entry {found.index} registers {called} with the digest {registered['model']['digest']}; the {kind} names "
            f"{used['digest']}.",
        )  # fmt: skip
    if found.index > decision.index:
        return Fact(name, False, f"Entry {found.index} registers {called} only after the {kind}.")
    if decision.schema == DECIDED:
        if not _same_point(decision.fields["operating_point"], registered["operating_point"]):
            return Fact(name, False, f"The decision was made with other thresholds than {called} was registered with.")
        if {*decision.fields["scores"]} != {*registered["classes"]}:
            return Fact(name, False, f"The decision scores other classes than {called} was registered with.")
    return Fact(
        name, True,
        f"{called} {did}{'' if kind == 'decision' else ', and decided nothing'}. Entry {found.index}, by "
        f"{shown(registered['made_by'])}, registers it with the same digest {used['digest']}.",
    )  # fmt: skip


def approval(decision: Entry, versions: Sequence[Entry], events: Sequence[Entry]) -> Fact:
    name, used = "approval", decision.fields["model"]
    called, kind = _called(used), decision.kind
    mine = [event for event in events if _names(event.fields["model"], used) and event.index < decision.index]
    if any(event.fields["model"]["digest"] != used["digest"] for event in mine):
        return Fact(name, False, f"An event of {called} names another digest than the {kind}.")
    by_action = {event.fields["action"]: event for event in mine}
    if "retire" in by_action:
        return Fact(name, False, f"{called} was retired in entry {by_action['retire'].index}, before the {kind}.")
    if "approve" not in by_action:
        return Fact(
            name, None, f"NOT APPROVED as far as this file shows: it holds no approval of {called} before the {kind}."
        )
    event, found = by_action["approve"], _version(decision, versions)
    actor = event.fields["actor"]
    if found is not None and found.fields["made_by"] == actor:
        return Fact(name, False, f"{shown(actor)} both made and approved {called}.")
    active = by_action.get("activate")
    return Fact(
        name, True,
        f"{shown(actor)} approved {called} at {event.fields['occurred_at']} (entry {event.index}), before the {kind}, for this "
        f"reason: {shown(event.fields['reason'])!r}; "
        + (f"it was made active in entry {active.index}." if active else "it was not made active, but named by its number."),
    )  # fmt: skip


def environment(decision: Entry, runtimes: Sequence[Entry], exports: Sequence[Entry] = ()) -> Fact:
    name = "environment"
    if decision.schema == FAILED:
        return Fact(name, None, "No network ran, so none is on record.")
    wanted = decision.fields["runtime"]
    for found in runtimes:
        if found.fields["digest"] == wanted:
            digest = hashlib.sha256(strict_json.dumps(found.fields["environment"])).hexdigest()
            if digest != wanted:
                return Fact(
                    name, False, f"The environment in entry {found.index} does not have the digest stated with it."
                )
            ran = found.fields["environment"].get("export")
            if ran is not None:
                return _exported(decision, ran, exports)
            return Fact(
                name, True, f"Entry {found.index} describes the software and machine with the digest that was recorded."
            )
    return Fact(name, False, "The file does not hold the environment whose digest the decision names.")


def _exported(decision: Entry, ran: Any, exports: Sequence[Entry]) -> Fact:
    """The decision was made by a file: that file was registered as one of the version, and before."""
    name, used = "environment", decision.fields["model"]
    for export in exports:
        if export.fields["sha256"] == ran and export.fields["model"] == used and export.index < decision.index:
            return Fact(
                name, True,
                f"The file with SHA-256 {ran} decided; entry {export.index}, by {shown(export.fields['made_by'])}, registers it "
                f"as an export of {_called(used)} that agreed with it on {export.fields['images']} pictures.",
            )  # fmt: skip
    return Fact(
        name, False,
        f"An exported file decided, {shown(str(ran))}, and the file holds no registration of it for {_called(used)} before the "
        "decision.",
    )  # fmt: skip


def data(decision: Entry, versions: Sequence[Entry], snapshots: Sequence[Entry]) -> Fact:
    name, found = "training data", _version(decision, versions)
    if found is None:
        return Fact(name, None, "Not checked: the registration of the model version is missing.")
    wanted, called = found.fields["snapshot_digest"], _called(found.fields["model"])
    if wanted is None:
        return Fact(name, None, f"Not on record: {called} was trained elsewhere.")
    for snapshot in snapshots:
        if snapshot.fields["digest"] == wanted:
            return Fact(
                name, True,
                f"{called} was trained on {shown(snapshot.fields['name'])}, {snapshot.fields['images']} images; entry "
                f"{snapshot.index} has the digest that the registration names.",
            )  # fmt: skip
    return Fact(name, None, f"Not checked: the file does not hold the data set that {called} names.")


def reviews(decision: Entry, found: Sequence[Entry]) -> Fact:
    name = "reviews"
    if not found:
        return Fact(name, None, "The file holds no review. That there is none in the log, it cannot show.")
    for review in found:
        if review.fields["inspection_id"] != decision.fields["id"]:
            return Fact(name, False, f"The review in entry {review.index} is of another decision.")
        if review.fields["inspection_leaf"] != decision.leaf.hex():
            return Fact(name, False, f"The review in entry {review.index} was made of a decision with other bytes.")
    last = found[-1].fields
    kind = f" ({shown(last['defect_type'])})" if last["defect_type"] is not None else ""
    who = f"{shown(last['reviewer'])}{', SIMULATED' if last['source'] == 'simulated' else ''}"
    return Fact(
        name, True,
        f"{len(found)} in this file, of these very bytes; the last, entry {found[-1].index}, says {last['truth']}{kind}, by {who}.",
    )  # fmt: skip


def _called(reference: dict[str, Any]) -> str:
    return f"{shown(reference['name'])}@{reference['version']}"


def _names(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return bool(one["name"] == other["name"] and one["version"] == other["version"])


def _version(decision: Entry, versions: Sequence[Entry]) -> Entry | None:
    """The registration of the version that decided; the first, where somebody registered its number again."""
    return next((found for found in versions if _names(found.fields["model"], decision.fields["model"])), None)


def _same_point(one: dict[str, str] | None, other: dict[str, str] | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(Decimal(one[name]) == Decimal(other[name]) for name in ("pass_below", "reject_at"))
