"""What a report says: frozen values, filled by the caller. Nothing here knows a database, and nothing here draws.

Recorded numbers are decimal strings, printed exactly as they stand in the record; digests are hexadecimal; times have a
zone. A report that would contradict itself is refused when its content is made.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from traceai.errors import InputError
from traceai.stats import Rates
from traceai_reports.station import Completeness

Verdict = Literal["pass", "reject", "undecided"]
Truth = Literal["good", "defective"]


@dataclass(frozen=True, kw_only=True)
class Issue:
    """The report itself: its identifier, and who had it made, when, for whom, with which software (`traceai 0.1.0`)."""

    report_id: str
    generated_at: datetime
    generated_by: str
    software_version: str
    produced_for: str = ""

    def __post_init__(self) -> None:
        if self.generated_at.tzinfo is None:
            raise InputError("A report's time of generation must have a time zone.")


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """Stands where ledger entry `ledger_index` should be quoted. It is gone, was altered, or is not what it should be.

    What the tables say in its place is not printed: nothing proves it.
    """

    ledger_index: int


@dataclass(frozen=True, kw_only=True)
class Part:
    product: str | None = None
    serial: str | None = None
    lot: str | None = None
    view: str | None = None


@dataclass(frozen=True, kw_only=True)
class Image:
    """The image as it was recorded. `data` is `None` when its bytes are no longer stored, or never were."""

    data: bytes | None = None
    sha256: str | None = None
    pixel_sha256: str | None = None
    size: int | None = None
    width: int | None = None
    height: int | None = None
    media_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class of the model: its score, and its logit where that is recorded."""

    name: str
    score: str
    logit: str | None = None
    defect: bool = True


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Below `pass_below` a part passes, from `reject_at` on it is rejected; between the two it is undecided."""

    pass_below: str
    reject_at: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The facts of the heat map, and `overlay`, a picture of it over the image (PNG), when it can be drawn."""

    method: str
    layer: str
    target: str
    height: int
    width: int
    sha256: str
    minimum: str
    maximum: str
    total: str
    peak_row: int
    peak_column: int
    degenerate: bool
    positive_fraction: str | None = None
    bias: str | None = None
    residual: str | None = None
    overlay: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The images a model was trained on; `counts` are (what, how many), such as ("train, good", 412).

    Name and digest are the model's own record of it; `unread` stands for the entry that says what the images were.
    """

    name: str
    digest: str
    images: int | None = None
    counts: tuple[tuple[str, int], ...] = ()
    unread: Unreadable | None = None


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Somebody's step in the life of a model version."""

    by: str
    at: datetime
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """How good a version's explanations were found to be.

    Attributes:
        verdict: "gone", "survive" or "not-judged" with all weights random; `words` says it.
        findings: (what, how much and beside which control), in the order to print.
        layers: by group of parameters, from the output down: its name, and what is left of the maps with it random, alone and
            together with all before it.
    """

    measured: Signature
    method: str
    layer: str
    images: str
    verdict: str
    words: str
    findings: tuple[tuple[str, str], ...]
    layers: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A model version and where it comes from. `None` stands for what is not on record, and the report says so.

    Attributes:
        evaluation: Facts from its evaluation, (what, value), in the order to print.
        training: Facts from its training, likewise.
        explained: What was found last of its explanations, until the report or the decision was made.
        waived, approved, activated, retired: The steps on record when the decision was made, or in force in the period.
        unread: Stands for the entry of its registration; then everything that it says is missing.
    """

    name: str
    version: int
    digest: str | None
    weights_digest: str | None = None
    architecture: str = ""
    parameters: int | None = None
    classes: tuple[str, ...] = ()
    operating_point: OperatingPoint | None = None
    snapshot: Snapshot | None = None
    trained: Signature | None = None
    explained: Explained | Unreadable | None = None
    waived: Signature | Unreadable | None = None
    approved: Signature | Unreadable | None = None
    activated: Signature | Unreadable | None = None
    retired: Signature | Unreadable | None = None
    training: tuple[tuple[str, str], ...] = ()
    evaluation: tuple[tuple[str, str], ...] = ()
    decisions: int | None = None
    unread: Unreadable | None = None

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, kw_only=True)
class AuditDraw:
    stratum: str
    probability: str
    drawn: bool


@dataclass(frozen=True, kw_only=True)
class Review:
    truth: Truth
    reviewer: str
    at: datetime
    defect_type: str | None = None
    source: Literal["human", "simulated"] = "human"
    note: str = ""
    ledger_index: int | None = None

    @property
    def simulated(self) -> bool:
        return self.source == "simulated"


@dataclass(frozen=True, kw_only=True)
class LedgerFact:
    """One thing that was checked in the ledger: how often, and how often it did not hold. `checked` is None where it was not
    looked at for this report."""

    name: str
    meaning: str
    checked: int | None
    failures: int = 0
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SignedCheckpoint:
    """A head of the ledger as it was signed.

    Attributes:
        size: How many entries it fixes, from the first on.
        note: The signed note, whole, as C2SP signed-note writes it.
        keys: The verifier keys on record whose signatures it bears, oldest first.
        leads: Whether the ledger's own entries lead to it.
    """

    size: int
    note: str
    keys: tuple[str, ...]
    leads: bool = True


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The ledger when the report was written. Without `facts` it was not verified, and the report says so.

    Attributes:
        origin: The name that it is signed under; empty where nobody signed it, or where that cannot be read.
        key: The verifier key on record that signs it; None where none on record can.
        checkpoint: The newest that was signed.
        unread: Why it cannot be read who signs the ledger.
    """

    size: int
    root: str
    origin: str = ""
    key: str | None = None
    checkpoint: SignedCheckpoint | None = None
    unread: str = ""
    verified_at: datetime | None = None
    facts: tuple[LedgerFact, ...] = ()

    @property
    def failures(self) -> int:
        return sum(fact.failures for fact in self.facts)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an inspection came to no verdict."""

    code: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class DecisionReport:
    """One decision, or one failed inspection: exactly one of `verdict` and `failure` is set.

    Attributes:
        defect_score: `None` for a model without a good class, which cannot pass a part.
        runtime: Digest of the recorded environment; `environment` are facts from it, (what, value), or stand for its entry.
        unreadable: Ledger indices of entries that the report should quote and cannot.
    """

    issue: Issue
    id: str
    ledger_index: int
    leaf_hash: str
    recorded_at: datetime
    occurred_at: datetime
    station: str
    station_seq: int
    part: Part
    image: Image
    model: ModelVersion
    ledger: Ledger
    trigger: int | None = None
    verdict: Verdict | None = None
    failure: Failure | None = None
    predicted: str | None = None
    defect_score: str | None = None
    operating_point: OperatingPoint | None = None
    scores: tuple[ClassScore, ...] = ()
    explanation: Explanation | None = None
    audit: AuditDraw | None = None
    reviews: tuple[Review | Unreadable, ...] = ()
    runtime: str | None = None
    environment: tuple[tuple[str, str], ...] | Unreadable = ()
    latency_us: int | None = None
    unreadable: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if (self.verdict is None) == (self.failure is None):
            raise InputError("A decision report needs either a verdict or a failure, and exactly one of them.")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an audit report covers. `None` means not restricted; `since` is inclusive, `until` exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    station: str | None = None
    model: str | None = None
    product: str | None = None
    lot: str | None = None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Inspections by outcome; `label` names the day, lot or station they belong to."""

    label: str = ""
    passed: int = 0
    rejected: int = 0
    undecided: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        return self.passed + self.rejected + self.undecided + self.failed


@dataclass(frozen=True, kw_only=True)
class DecisionRow:
    """One line in the table of decisions. `truth` is what the last review found, `unread` stands for its entry."""

    id: str
    ledger_index: int
    occurred_at: datetime
    station: str
    station_seq: int
    model: str
    verdict: Verdict | None
    defect_score: str | None = None
    failure_code: str | None = None
    serial: str | None = None
    lot: str | None = None
    truth: Truth | None = None
    defect_type: str | None = None
    simulated: bool = False
    drawn: bool = False
    unread: Unreadable | None = None

    @property
    def error(self) -> Literal["false negative", "false positive"] | None:
        if self.verdict == "pass" and self.truth == "defective":
            return "false negative"
        if self.verdict == "reject" and self.truth == "good":
            return "false positive"
        return None


@dataclass(frozen=True, kw_only=True)
class VerifiedError:
    """A decision that a review found wrong, with its image and the picture of its heat map where they are stored."""

    row: DecisionRow
    image: bytes | None
    overlay: bytes | None
    reviewer: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.row.error is None:
            raise InputError(f"Decision {self.row.id} is no verified error; only those belong in the gallery.")


@dataclass(frozen=True, kw_only=True)
class FailedInspection:
    id: str
    ledger_index: int
    occurred_at: datetime
    station: str
    failure: Failure
    serial: str | None = None


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """The decisions of a scope, how right they were, and what they stand on.

    Attributes:
        counts: All inspections in scope, including those that `decisions` may leave out.
        periods: The same inspections by day, lot or station, in the order to draw; empty for no chart.
        decisions: The lines to print, in ledger order. Fewer than `counts` when the caller limits the table.
        completeness: What the stations in scope lack, which is for all that they recorded.
        reviewed, simulated: Parts with a review, and how many of those reviews no person made.
        errors: Verified errors to show, however ordered.
        errors_found: How many there are of each kind (`DecisionRow.error`); None where all are shown.
        first_index, last_index: Ledger indices of the first and the last inspection in scope.
        unreadable: Ledger indices of entries that the report should quote and cannot.
    """

    issue: Issue
    title: str
    scope: Scope
    counts: Counts
    rates: Rates
    ledger: Ledger
    periods: tuple[Counts, ...] = ()
    period_name: str = "day"
    decisions: tuple[DecisionRow | Unreadable, ...] = ()
    models: tuple[ModelVersion, ...] = ()
    errors: tuple[VerifiedError, ...] = ()
    errors_found: Counter[str] | None = None
    failed: tuple[FailedInspection | Unreadable, ...] = ()
    completeness: Completeness = field(default_factory=Completeness)
    reviewed: int = 0
    simulated: int = 0
    first_index: int | None = None
    last_index: int | None = None
    unreadable: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        rates = (self.rates.passed.decisions, self.rates.rejected.decisions, self.rates.undecided.decisions)
        counts = (self.counts.passed, self.counts.rejected, self.counts.undecided)
        if rates != counts:
            raise InputError(f"The rates are of {rates} passed, rejected and undecided parts, the counts say {counts}.")
        if self.periods and sum(period.total for period in self.periods) != self.counts.total:
            raise InputError("The periods of the report do not add up to its inspections.")
        if self.simulated > self.reviewed:
            raise InputError("More reviews are marked simulated than there are.")
