"""Report content with drawn parts: a grey casting with speckle, and a dark scratch on the defective ones."""

import hashlib
import io
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from PIL import Image as PilImage

from traceai.explain.overlay import render
from traceai.ledger.note import ED25519, SigningKey, sign_note
from traceai.ledger.tlog.checkpoint import Checkpoint
from traceai.stats import Cell, estimate_rates
from traceai_reports.content import (
    AuditDraw,
    AuditReport,
    ClassScore,
    Counts,
    DecisionReport,
    DecisionRow,
    Explained,
    Explanation,
    FailedInspection,
    Failure,
    Image,
    Issue,
    Ledger,
    LedgerFact,
    ModelVersion,
    OperatingPoint,
    Part,
    Review,
    Scope,
    Signature,
    SignedCheckpoint,
    Snapshot,
    VerifiedError,
)
from traceai_reports.station import Completeness, MissingTriggers, Outage, StationRecord

START = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def identifier(seed):
    return str(uuid.UUID(int=(0x0195_A3C4_7B00 << 80) + (7 << 76) + (2 << 62) + seed * 0x9E37_79B9_7F4A % (1 << 62)))


def png(array):
    buffer = io.BytesIO()
    PilImage.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def part_pixels(seed, *, defective, height=120, width=160):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    shade = 120 + 60 * np.exp(-(((x - width / 2) / width) ** 2 + ((y - height / 2) / height) ** 2) * 4)
    picture = shade + rng.normal(0, 7, (height, width))
    ring = np.hypot(x - width / 2, y - height / 2)
    picture[np.abs(ring - height * 0.36) < 2] -= 40
    if defective:
        cx, cy = rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height
        picture[(np.abs((x - cx) * 0.6 - (y - cy)) < 2) & (np.abs(x - cx) < 20)] -= 75
    return picture.clip(0, 255).astype(np.uint8)


@cache
def pictures(seed, *, defective):
    pixels = part_pixels(seed, defective=defective)
    grid = np.random.default_rng(seed).normal(0, 0.35, (7, 7))
    grid[3, 3:5] += 3 if defective else 0.4
    heat = io.BytesIO()
    render(pixels, grid).save(heat, format="PNG")
    return png(pixels), heat.getvalue()


def issue(**changes):
    values = {
        "report_id": "R-2026-0310-7f3a",
        "generated_at": datetime(2026, 3, 10, 15, 4, 5, tzinfo=UTC),
        "generated_by": "m.ferrer",
        "software_version": "traceai 0.1.0",
        "produced_for": "Notified body 0123, surveillance audit 2026",
    }
    return Issue(**(values | changes))


def explained(survive=False):
    return Explained(
        measured=Signature(by="j.okafor", at=START - timedelta(days=8)),
        method="grad-cam/1",
        layer="resnet.encoder.stages.2",
        images="all val images of castings-2026-02, none of them seen in training",
        verdict="survive" if survive else "gone",
        words="NO: 0.61 of their order is left (unrelated maps of this size: 0.06), so they do not show what the network learnt"
        if survive
        else "yes: 0.09 of their order is left (unrelated maps of this size: 0.06)",
        findings=(
            ("measured on", "543 images, 141 of them defective"),
            ("peak on the defect", "88.7% of 141 (a random cell: 6.1%)"),
            ("deletion area", "0.09, lower is better (random order: 0.21, edges of the image: 0.13)"),
        ),
        layers=(
            ("classifier.1", "0.16", "0.16"),
            ("resnet.encoder.stages.2", "0.12", "0.12"),
            ("resnet.embedder.embedder.convolution", "0.35", "0.61" if survive else "0.08"),
        ),
    )


def model(version=3, **changes):
    values = {
        "name": "castings",
        "version": version,
        "digest": digest(f"version {version}"),
        "weights_digest": digest(f"weights {version}"),
        "architecture": "resnet18, GAP + linear head, input 224 × 224 grey",
        "parameters": 11_170_242,
        "classes": ("good", "crack", "blowhole"),
        "operating_point": OperatingPoint(pass_below="0.183000", reject_at="0.642000"),
        "snapshot": Snapshot(
            name="castings-2026-02",
            digest=digest("snapshot"),
            images=2148,
            counts=(
                ("train, good", 1204),
                ("train, crack", 211),
                ("train, blowhole", 190),
                ("val, good", 402),
                ("val, defective", 141),
            ),
        ),
        "trained": Signature(by="j.okafor", at=START - timedelta(days=9)),
        "approved": Signature(
            by="dr.lindqvist",
            at=START - timedelta(days=6),
            reason="Miss rate on the validation split within the limit of the control plan CP-114, rev. C.",
        ),
        "activated": Signature(by="dr.lindqvist", at=START - timedelta(days=5)),
        "training": (("Epochs", "24"), ("Seed", "20260221"), ("Augmentation", "flip, exposure ±0.2")),
        "evaluation": (
            ("Images", "543 (val), none seen in training"),
            ("Miss rate at the operating point", "1.4 % (95 % interval 0.4 % to 5.0 %; 2 of 141)"),
            ("False-alarm rate", "1.2 % (95 % interval 0.53 % to 2.9 %; 5 of 402)"),
            ("Explanation hits the mask", "88.7 % (125 of 141)"),
        ),
        "explained": explained(),
    }
    return ModelVersion(**(values | changes))


FACTS = (
    LedgerFact(
        name="entries",
        meaning="every journal entry is present and its bytes are a known, canonical record",
        checked=4_712,
    ),
    LedgerFact(name="leaf hashes", meaning="every entry's bytes have the leaf hash stored with them", checked=4_712),
    LedgerFact(name="tree", meaning="the entries, in order, lead to the stored root and size", checked=1),
    LedgerFact(
        name="tables",
        meaning="every table row says what its journal entry says, and every entry has its row",
        checked=4_712,
    ),
    LedgerFact(
        name="heat maps", meaning="every stored explanation has the digest that its decision recorded", checked=4_498
    ),
    LedgerFact(name="stations", meaning="every station's decisions are numbered without a gap", checked=2),
    LedgerFact(name="blobs", meaning="every recorded image and model file is stored, byte for byte", checked=None),
)


ORIGIN = "plant-7.example/traceai"
LOG = SigningKey(ORIGIN, ED25519, hashlib.sha256(b"log").digest())


def checkpoint(size=4_712, *, signers=(LOG,), **changes):
    note = sign_note(Checkpoint(ORIGIN, size, hashlib.sha256(b"root").digest()).text(), signers)
    values = {"size": size, "note": note, "keys": tuple(str(signer.verifier) for signer in signers)}
    return SignedCheckpoint(**(values | changes))


def ledger(**changes):
    values = {
        "size": 4_712,
        "root": digest("root"),
        "origin": ORIGIN,
        "key": str(LOG.verifier),
        "checkpoint": checkpoint(),
        "verified_at": datetime(2026, 3, 10, 15, 3, 58, tzinfo=UTC),
        "facts": FACTS,
    }
    return Ledger(**(values | changes))


def decision(**changes):
    image, overlay = pictures(4, defective=True)
    values = {
        "issue": issue(),
        "id": identifier(1),
        "ledger_index": 3_127,
        "leaf_hash": digest("leaf"),
        "recorded_at": START + timedelta(days=3, seconds=12, microseconds=48_211),
        "occurred_at": START + timedelta(days=3, seconds=12, microseconds=3_907),
        "station": "press-4",
        "station_seq": 2_991,
        "trigger": 88_120,
        "part": Part(product="housing 40-118", serial="SN-0042-7781", lot="L26-09", view="top"),
        "image": Image(
            data=image,
            sha256=digest("image"),
            pixel_sha256=digest("pixels"),
            size=len(image),
            width=160,
            height=120,
            media_type="image/png",
        ),
        "model": model(),
        "ledger": ledger(),
        "verdict": "reject",
        "predicted": "crack",
        "defect_score": "0.934112",
        "operating_point": OperatingPoint(pass_below="0.183000", reject_at="0.642000"),
        "scores": (
            ClassScore(name="good", score="0.065888", logit="-1.204418", defect=False),
            ClassScore(name="crack", score="0.917203", logit="1.429105"),
            ClassScore(name="blowhole", score="0.016909", logit="-2.564731"),
        ),
        "explanation": Explanation(
            method="grad-cam, closed form",
            layer="layer4",
            target="crack",
            height=7,
            width=7,
            sha256=digest("grid"),
            minimum="-0.081223",
            maximum="0.391742",
            total="1.402006",
            peak_row=3,
            peak_column=4,
            degenerate=False,
            positive_fraction="0.632653",
            bias="0.027099",
            residual="0.000001",
            overlay=overlay,
        ),
        "audit": AuditDraw(stratum="reject", probability="1", drawn=True),
        "reviews": (
            Review(
                truth="defective",
                defect_type="crack",
                reviewer="s.marin",
                at=START + timedelta(days=3, hours=2),
                note="Confirmed under the stereo microscope, 12 mm.",
            ),
        ),
        "runtime": digest("runtime"),
        "environment": (
            ("Python", "3.11.9"),
            ("torch", "2.13.0+cpu"),
            ("Device", "cpu, 4 threads, batch 1 × 1 × 224 × 224"),
        ),
        "latency_us": 41_870,
    }
    return DecisionReport(**(values | changes))


def failed(**changes):
    values = {
        "verdict": None,
        "failure": Failure(
            code="image-truncated", sentence="The image ends before its last row; check the camera's cable and buffer."
        ),
        "image": Image(sha256=digest("torn"), size=20_480),
        "predicted": None,
        "defect_score": None,
        "operating_point": None,
        "scores": (),
        "explanation": None,
        "audit": None,
        "reviews": (),
        "runtime": None,
        "environment": (),
        "latency_us": None,
    }
    return decision(**(values | changes))


def rows(count, *, seed=1, models=("castings@3",)):
    rng = np.random.default_rng(seed)
    listed = []
    for k in range(count):
        defective = rng.random() < 0.07
        score = float(np.clip(rng.beta(9, 1.4) if defective else rng.beta(1.2, 14), 0, 0.999999))
        verdict = "reject" if score >= 0.642 else "pass" if score < 0.183 else "undecided"
        drawn = verdict != "pass" or rng.random() < 0.12
        broken = rng.random() < 0.006
        listed.append(
            DecisionRow(
                id=identifier(k),
                ledger_index=1_580 + k + k // 9,
                occurred_at=START + timedelta(minutes=13 * k),
                station="press-4" if k % 3 else "press-5",
                station_seq=1_200 + k,
                model=models[min(len(models) - 1, k * len(models) // count)],
                verdict=None if broken else verdict,
                failure_code="image-truncated" if broken else None,
                defect_score=None if broken else f"{score:.6f}",
                serial=f"SN-0042-{6000 + k}",
                lot=f"L26-{8 + k // 120:02d}",
                truth=None if broken or not drawn else "defective" if defective else "good",
                defect_type="crack" if drawn and defective and not broken else None,
                drawn=drawn and not broken,
            )
        )
    return tuple(listed)


def tally(listed, label=""):
    by = [row.verdict for row in listed]
    return Counts(
        label=label,
        passed=by.count("pass"),
        rejected=by.count("reject"),
        undecided=by.count("undecided"),
        failed=by.count(None),
    )


def rates_of(listed, probability=0.12):
    cells = []
    for verdict in ("pass", "reject", "undecided"):
        own = [row for row in listed if row.verdict == verdict]
        cells.append(
            Cell(
                verdict=verdict,
                probability=probability if verdict == "pass" else 1.0,
                decisions=len(own),
                verified_good=sum(row.drawn and row.truth == "good" for row in own),
                verified_defective=sum(row.drawn and row.truth == "defective" for row in own),
                targeted_good=sum(not row.drawn and row.truth == "good" for row in own),
                targeted_defective=sum(not row.drawn and row.truth == "defective" for row in own),
            )
        )
    return estimate_rates(cells)


def outage(number=0, **changes):
    began = START + timedelta(days=2, hours=3 * number, minutes=7)
    values = {
        "ledger_index": 1_640 + 7 * number,
        "station": "press-4",
        "began_at": began,
        "ended_at": began + timedelta(minutes=20, seconds=14),
        "code": "database-unavailable",
        "cause": "PostgreSQL does not answer (connection refused); start it or check TRACEAI_DATABASE_URL.",
        "delayed": 37,
        "lost": 0,
        "by": "press-4",
    }
    return Outage(**(values | changes))


def station(name="press-4", **changes):
    """A station of which nothing is missing."""
    values = {"station": name, "decisions": 5_120, "first_number": 1_201, "last_number": 6_320, "with_trigger": 5_120}
    return StationRecord(**(values | changes))


def with_outages(*outages, **changes):
    values = {
        "outages": outages,
        "outages_found": len(outages),
        "delayed": sum(one.delayed for one in outages),
        "lost": sum(one.lost for one in outages),
    }
    return station(**(values | changes))


def holed(**changes):
    """A station that lacks four triggers in two places, and had outages of every kind."""
    outages = (
        outage(0),
        outage(1, delayed=4, lost=3, triggers=(88_012, 88_014), code="spool-unusable", cause="No space is left on the device."),
        outage(
            2, delayed=0, code="declared", cause="Empty carriers after the change of tools, no part was on them.", by="s.marin",
            triggers=(88_400, 88_400), ended_at=outage(2).began_at,
        ),
        outage(3, delayed=1_204, ended_at=outage(3).began_at + timedelta(days=1, hours=6, minutes=30)),
    )  # fmt: skip
    values = {
        "missing": (
            MissingTriggers(
                first=87_041,
                last=87_043,
                noticed=1_702,
                before=START + timedelta(days=1),
                after=START + timedelta(days=1, seconds=9),
            ),
            MissingTriggers(first=89_300, last=89_300, noticed=2_310, before=None, after=START + timedelta(days=4)),
        ),
        "missing_found": 2,
        "missing_triggers": 4,
        "explained": 2,
        "restarts": 1,
    }
    return with_outages(*outages, **(values | changes))


def audit(count=120, *, seed=1, simulated=False, **changes):
    listed = list(rows(count, seed=seed, models=("castings@2", "castings@3")))
    for k, truth in (
        (7, "defective"),
        (count // 2, "defective"),
        (count // 3, "good"),
        (count - 9, "good"),
        (count - 20, "good"),
    ):
        verdict, score = ("pass", "0.091250") if truth == "defective" else ("reject", "0.731044")
        kind = "blowhole" if truth == "defective" else None
        listed[k] = replace(
            listed[k], verdict=verdict, defect_score=score, truth=truth, defect_type=kind, drawn=True, failure_code=None
        )
    if simulated:
        listed = [replace(row, simulated=row.truth is not None) for row in listed]
    errors = []
    for row in listed:
        if row.error:
            image, overlay = pictures(row.ledger_index, defective=row.truth == "defective")
            errors.append(
                VerifiedError(
                    row=row, image=image, overlay=overlay, reviewer="s.marin", note="Seen again under raking light."
                )
            )
    days = sorted({f"{row.occurred_at:%m-%d}" for row in listed})
    reviewed = sum(row.truth is not None for row in listed)
    values = {
        "issue": issue(),
        "title": "Inspection audit, press line 2, lots L26-08 to L26-11",
        "scope": Scope(since=START, until=START + timedelta(days=8), model="castings"),
        "counts": tally(listed),
        "rates": rates_of(listed),
        "ledger": ledger(),
        "periods": tuple(tally([r for r in listed if f"{r.occurred_at:%m-%d}" == day], day) for day in days),
        "decisions": tuple(listed),
        "models": (
            model(
                2,
                decisions=count // 2,
                retired=Signature(by="dr.lindqvist", at=START + timedelta(days=2), reason="Replaced by version 3."),
            ),
            model(3, decisions=count - count // 2),
        ),
        "errors": tuple(errors),
        "failed": tuple(
            FailedInspection(
                id=row.id,
                ledger_index=row.ledger_index,
                occurred_at=row.occurred_at,
                station=row.station,
                serial=row.serial,
                failure=Failure(code="image-truncated", sentence="The image ends before its last row."),
            )
            for row in listed
            if row.verdict is None
        ),
        "completeness": Completeness(
            stations=(
                station(),
                station("press-5", decisions=2_418, first_number=88, last_number=2_505, with_trigger=0),
            ),
            since=START,
            until=START + timedelta(days=8),
            narrowed=True,
        ),
        "reviewed": reviewed,
        "simulated": reviewed if simulated else 0,
        "first_index": listed[0].ledger_index if listed else None,
        "last_index": listed[-1].ledger_index if listed else None,
    }
    return AuditReport(**(values | changes))
