import hashlib
import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pypdfium2
import pytest

from tests.reports import reading, samples
from traceai.errors import InputError
from traceai.ledger.note import COSIGNATURE, ED25519, SigningKey, sign_note
from traceai.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from traceai_reports import decision_report
from traceai_reports.content import ClassScore, OperatingPoint, Part, Review, Signature, Snapshot, Unreadable
from traceai_reports.document import MARGIN

ROOT = Path(__file__).parents[2]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "decision.pdf"


def written(content, out):
    decision_report(content, out)
    return reading.text(out)


def test_every_fact_of_the_record_is_printed(out):
    content = samples.decision()
    text = written(content, out)
    explanation, model, image = content.explanation, content.model, content.image
    for fact in (
        content.id, content.leaf_hash, "index 3,127", "2026-03-05T06:00:12.003907Z", "2026-03-05T06:00:12.048211Z",
        "SN-0042-7781", "L26-09", "housing 40-118", "press-4, sequence number 2,991", "88,120", "41.9 ms",
        image.sha256, image.pixel_sha256, "160 × 120 pixels", "image/png", f"{image.size:,} bytes",
        explanation.method, explanation.layer, explanation.sha256, "7 × 7", explanation.minimum, explanation.maximum,
        explanation.total, "row 3, column 4", explanation.residual, "0.934112", "0.183000", "0.642000", "1.429105",
        "castings@3", model.digest, model.weights_digest, model.architecture, "11,170,242", model.snapshot.digest,
        "castings-2026-02 (2,148 images)", "train, crack: 211", "j.okafor, 2026-02-21", "dr.lindqvist, 2026-02-24",
        "rev. C.", "88.7 % (125 of 141)", "fixed when the decision was made", "s.marin",
        "Confirmed under the stereo microscope", content.ledger.root, "4,712 entries", "plant-7.example/traceai",
        "2026-03-10 15:03:58 UTC", "every table row says what its journal entry says", content.runtime, "2.13.0+cpu",
    ):  # fmt: skip
        assert fact in text, fact


@pytest.mark.parametrize(
    ("verdict", "score", "sentence"),
    [
        ("reject", "0.934112", "The defect score 0.934112 reaches the reject threshold 0.642000."),
        ("reject", "0.642000", "The defect score 0.642000 reaches the reject threshold 0.642000."),
        ("pass", "0.091250", "The defect score 0.091250 lies below the pass threshold 0.183000."),
        ("undecided", "0.183000", "The defect score 0.183000 lies between 0.183000 and 0.642000"),
    ],
)
def test_the_verdict_is_large_and_says_what_it_rests_on(verdict, score, sentence, out):
    text = written(samples.decision(verdict=verdict, defect_score=score), out)
    assert verdict.upper() in text
    assert sentence in text
    assert "does not follow" not in text


def test_a_verdict_that_contradicts_its_score_is_called_out(out):
    assert "lead to reject, and pass is recorded" in written(samples.decision(verdict="pass"), out)


@pytest.mark.parametrize("point", [("0.5", "0.5"), ("0.000000", "1.500000"), ("0.01", "0.02"), ("0.99", "1")])
@pytest.mark.parametrize("score", ["0.000000", "1.000000", "0.015"])
def test_the_number_line_holds_any_operating_point(point, score, out):
    pass_below, reject_at = point
    verdict = (
        "pass" if float(score) < float(pass_below) else "reject" if float(score) >= float(reject_at) else "undecided"
    )
    content = samples.decision(
        verdict=verdict,
        defect_score=score,
        operating_point=OperatingPoint(pass_below=pass_below, reject_at=reject_at),
    )
    text = written(content, out)
    assert f"pass below {pass_below}" in text
    assert f"reject from {reject_at}" in text
    assert reading.outside(out, MARGIN) == []


def test_a_failed_inspection_has_no_verdict_and_says_why(out):
    text = written(samples.failed(), out)
    assert "FAILED" in text
    assert "Failure: image-truncated" in text
    assert "The image ends before its last row" in text
    assert "A failed inspection never passes a part." in text
    assert not {"PASS", "REJECT", "UNDECIDED"} & set(text.split())


def test_a_failed_inspection_without_an_image_is_reported_too(out):
    text = written(samples.failed(image=replace(samples.failed().image, sha256=None, size=None)), out)
    assert "File, SHA-256 not recorded" in text


def test_a_model_without_a_good_class_is_explained(out):
    content = samples.decision(verdict="undecided", defect_score=None, operating_point=None)
    text = written(content, out)
    assert "The model has no good class: it can name a defect, but it can never pass a part." in text
    assert "defect score" not in text.lower()


def test_a_model_that_nobody_approved_is_prominent(out):
    decision_report(samples.decision(model=samples.model(approved=None)), out)
    first, *rest = reading.pages(out)
    assert "Model version not approved" in first
    assert "NOT APPROVED" in " ".join(rest)


def test_how_good_the_explanations_are_is_printed_beside_its_controls(out):
    found = written(samples.decision(), out)
    assert "Quality of the explanations" in found
    assert "yes: 0.09 of their order is left" in found
    assert "88.7% of 141 (a random cell: 6.1%)" in found
    assert "resnet.embedder.embedder.convolution 0.35 0.08" in found
    never = samples.decision(model=samples.model(explained=None))
    assert "Nobody had measured how good this version's explanations are." in written(never, out)


def test_explanations_that_survive_random_weights_are_called_that_and_the_waiver_is_quoted(out):
    waived = Signature(by="dr.lindqvist", at=samples.START, reason="A person looks at every part.")
    model = samples.model(explained=samples.explained(survive=True), waived=waived)
    found = written(samples.decision(model=model), out)
    assert "NO: 0.61 of their order is left" in found
    assert "In spite of its explanations dr.lindqvist" in found
    assert "A person looks at every part." in found


def test_a_simulated_review_is_labelled_wherever_it_is_shown(out):
    review = replace(samples.decision().reviews[0], source="simulated")
    pages = (decision_report(samples.decision(reviews=(review,)), out), reading.pages(out))[1]
    shown = [page for page in pages if "s.marin" in page]
    assert len(shown) == 2
    assert all("SIMULATED" in page for page in shown)


def test_a_review_by_a_person_is_not_called_simulated(out):
    assert "SIMULATED" not in written(samples.decision(), out)


@pytest.mark.parametrize(
    ("verdict", "score", "truth", "error"),
    [("pass", "0.1", "defective", "a false negative"), ("reject", "0.9", "good", "a false positive")],
)
def test_a_review_that_contradicts_the_verdict_names_the_error(verdict, score, truth, error, out):
    review = Review(truth=truth, reviewer="s.marin", at=samples.START)
    assert error in written(samples.decision(verdict=verdict, defect_score=score, reviews=(review,)), out)


def box(out):
    """The text of the first page, where the reviews have a box."""
    return reading.pages(out)[0]


def reviews_of(*truths, **changes):
    return tuple(
        Review(truth=truth, reviewer=f"reviewer-{k}", at=samples.START + timedelta(hours=k), **changes)
        for k, truth in enumerate(truths)
    )


def test_reviews_that_contradict_each_other_are_all_shown_and_called_that(out):
    decision_report(samples.decision(reviews=reviews_of("defective", "good", "defective", "good")), out)
    assert (
        "4 reviews that contradict each other; the last one found: good. This verdict is a false positive. "
        "defective, found by reviewer-0, 2026-03-02 06:00:00 UTC. good, found by reviewer-1, 2026-03-02 07:00:00 UTC. "
        "defective, found by reviewer-2, 2026-03-02 08:00:00 UTC. good, found by reviewer-3, 2026-03-02 09:00:00 UTC."
    ) in box(out)


def test_reviews_that_agree_are_not_said_to_contradict_each_other(out):
    decision_report(samples.decision(reviews=reviews_of("defective", "defective")), out)
    assert "2 reviews; the last one found: defective defective, found by reviewer-0" in box(out)


def test_of_many_reviews_the_last_are_shown_and_the_first_are_pointed_to(out):
    decision_report(samples.decision(reviews=reviews_of("good", *["defective"] * 30)), out)
    first, text = box(out), reading.text(out)
    assert (
        "31 reviews that contradict each other; the last one found: defective The first 25 of them stand under" in first
    )
    assert [f"reviewer-{k}," in first for k in (0, 24, 25, 30)] == [False, False, True, True]
    assert all(f"reviewer-{k} " in text for k in range(31))


def test_simulated_and_unreadable_reviews_are_told_apart_in_the_box(out):
    mixed = (*reviews_of("good"), Unreadable(ledger_index=9), *reviews_of("defective", source="simulated"))
    decision_report(samples.decision(reviews=mixed), out)
    assert (
        "3 reviews that contradict each other; the last one (SIMULATED) found: defective good, found by reviewer-0, "
        "2026-03-02 06:00:00 UTC. Ledger entry 9 cannot be read. defective, found by reviewer-0, 2026-03-02 06:00:00 UTC, "
        "SIMULATED. Reviews marked SIMULATED were made by software"
    ) in box(out)
    decision_report(samples.decision(reviews=(*reviews_of("good"), Unreadable(ledger_index=9))), out)
    assert "2 reviews; the last one cannot be read good, found by reviewer-0" in box(out)
    decision_report(samples.decision(reviews=(Unreadable(ledger_index=9),)), out)
    assert "The review cannot be read Ledger entry 9 cannot be read." in box(out)


def test_the_defect_score_is_said_to_be_a_sum_wherever_it_decides(out):
    scores = tuple(
        ClassScore(name=name, score=score, logit=logit, defect=name != "good")
        for name, score, logit in (("good", "0.35", "0.509"), ("crack", "0.33", "0.45"), ("dent", "0.32", "0.42"))
    )
    content = samples.decision(scores=scores, predicted="good", defect_score="0.650000")
    text = written(content, out)
    assert "The defect score is the sum of the scores of all classes that count as defects" in text
    assert "Highest logit: good. The verdict rests on the defect score, the sum over all defect classes" in text
    assert "Here each defect class has a lower score than good, and all of them together have 0.650000." in text
    assert "Defect score: the sum over all defect classes 0.650000" in text
    assert "Here each defect class" not in written(samples.decision(), out)


def test_a_failed_inspection_is_not_said_to_have_decided_or_been_right(out):
    text = written(samples.failed(model=samples.model(approved=None)), out)
    assert "was on record when this inspection was attempted." in text
    assert "There is no verdict to review." in text
    assert "A failed inspection decided nothing." in text
    assert "Whether the verdict was right" not in text


def test_without_a_review_the_truth_is_unknown(out):
    text = written(samples.decision(reviews=()), out)
    assert "Whether the verdict was right is not known." in text


def test_a_degenerate_explanation_is_called_out(out):
    explanation = replace(samples.decision().explanation, degenerate=True)
    assert "The explanation is degenerate" in written(samples.decision(explanation=explanation), out)


def test_a_snapshot_whose_entry_cannot_be_read_is_named_and_its_images_are_not(out):
    snapshot = Snapshot(name="parts", digest=samples.digest("parts"), unread=Unreadable(ledger_index=7))
    text = written(samples.decision(model=samples.model(snapshot=snapshot)), out)
    assert (
        f"Training snapshot parts Snapshot digest {snapshot.digest} Images by kind ledger entry 7 cannot be read"
        in text
    )


def test_entries_that_cannot_be_read_are_named_on_the_first_page(out):
    decision_report(samples.decision(unreadable=tuple(range(30))), out)
    assert "index 0, 1, 2" in reading.pages(out)[0]
    assert "18, 19 and 10 others." in reading.pages(out)[0]


def copied_note(out):
    """The lines of the checkpoint as a reader copies them, with the empty line put back, as the page asks for."""
    with pypdfium2.PdfDocument(out) as document:
        text = "\n".join(page.get_textpage().get_text_bounded() for page in document).replace("\r", "")
    lines = text[text.index("The newest signed checkpoint") :].splitlines()
    first = lines.index(samples.ORIGIN)
    signatures = itertools.takewhile(lambda line: line.startswith("\u2014 "), filter(None, lines[first + 3 :]))
    return "\n".join([*lines[first : first + 3], "", *signatures, ""])


@pytest.mark.parametrize("cosigners", [0, 3])
def test_the_ledger_is_named_and_its_newest_checkpoint_can_be_copied_and_verified(cosigners, out):
    witnesses = [SigningKey.generate(f"witness-{n}.example", COSIGNATURE) for n in range(cosigners)]
    checkpoint = samples.checkpoint(signers=(samples.LOG, *witnesses), keys=(str(samples.LOG.verifier),))
    text = written(samples.decision(ledger=samples.ledger(checkpoint=checkpoint)), out)
    assert f"Ledger origin {samples.ORIGIN} Signing key {samples.LOG.verifier} Ledger size" in text
    assert (
        "It fixes all 4,712 entries of the ledger, bytes and order, every inspection in this report among them." in text
    )
    assert "Compare origin and key with those that you were given in another way" in text
    assert "Signed with" not in text
    note = copied_note(out)
    assert note == checkpoint.note
    point, found = open_checkpoint(note, [samples.LOG.verifier, *(witness.verifier for witness in witnesses)])
    assert (point.size, point.root.hex()) == (4_712, samples.ledger().root)
    assert len(found.verified) == 1 + cosigners
    assert reading.outside(out, MARGIN) == []


def test_a_checkpoint_that_does_not_cover_the_decision_says_so(out):
    text = written(samples.decision(ledger=samples.ledger(checkpoint=samples.checkpoint(3_127))), out)
    assert "It fixes the first 3,127 of the 4,712 entries of the ledger" in text
    assert "Inspections in this report are not among them: what it says of entries from index 3,127 on, nobody" in text
    text = written(samples.decision(ledger=samples.ledger(checkpoint=samples.checkpoint(3_128))), out)
    assert (
        "the first 3,128 of the 4,712 entries of the ledger, bytes and order, every inspection in this report" in text
    )


def test_a_checkpoint_that_the_ledger_does_not_lead_to_is_called_out(out):
    text = written(samples.decision(ledger=samples.ledger(checkpoint=samples.checkpoint(leads=False))), out)
    assert "The ledger does not lead to its own checkpoint" in text
    assert copied_note(out) == samples.checkpoint().note


def test_another_key_than_the_current_one_is_named_beside_the_checkpoint(out):
    text = written(samples.decision(ledger=samples.ledger(checkpoint=samples.checkpoint(keys=("older+key",)))), out)
    assert "Signed with older+key" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"origin": "", "key": None, "checkpoint": None},
            ["Ledger origin NOT SIGNED", "Nobody has signed this ledger."],
        ),
        ({"checkpoint": None}, ["No checkpoint that a key on record signed was found."]),
        ({"key": None}, ["no key that can sign is on record"]),
        (
            {"origin": "", "key": None, "checkpoint": None, "unread": "Entry 0 is not the one."},
            ["Ledger origin cannot be read", "Who signs this ledger cannot be read", "Entry 0 is not the one."],
        ),
    ],
)
def test_a_ledger_that_nothing_signed_vouches_for_is_called_that(changes, said, out):
    text = written(samples.decision(ledger=samples.ledger(**changes)), out)
    assert all(sentence in text for sentence in said)


def test_the_longest_names_of_logs_and_witnesses_stay_inside_the_page(out):
    log = SigningKey.generate(f"plant.example/{'W' * 186}", ED25519)
    witnesses = [SigningKey.generate(f"{'件' * 60}{n}", COSIGNATURE) for n in range(20)]
    note = sign_note(Checkpoint(log.name, 1, bytes(32)).text(), [log, *witnesses])
    checkpoint = samples.checkpoint(note=note, keys=(str(log.verifier), str(witnesses[0].verifier)))
    ledger = samples.ledger(origin=log.name, key=str(log.verifier), checkpoint=checkpoint)
    written(samples.decision(ledger=ledger), out)
    assert reading.outside(out, MARGIN) == []
    assert b"/Helvetica" not in out.read_bytes()


def test_what_was_not_checked_is_not_said_to_hold(out):
    text = written(samples.decision(), out)
    assert (
        "blobs every recorded image and model file is stored, byte for byte \u2013 not checked for this report" in text
    )


def test_an_unverified_ledger_is_called_out(out):
    assert "The ledger was not verified" in written(samples.decision(ledger=samples.ledger(facts=())), out)


def test_a_ledger_that_does_not_hold_is_called_out_with_its_findings(out):
    fact = replace(samples.FACTS[3], failures=2, findings=("table review, journal index 12, column truth",))
    text = written(samples.decision(ledger=samples.ledger(facts=(fact,))), out)
    assert "Ledger verification failed" in text
    assert "FAILS (2)" in text
    assert "journal index 12, column truth" in text


def test_images_that_are_gone_or_broken_leave_a_word_in_their_place(out):
    content = samples.decision()
    text = written(
        replace(
            content,
            image=replace(content.image, data=None),
            explanation=replace(content.explanation, overlay=b"\x89PNG\r\n\x1a\nnonsense"),
        ),
        out,
    )
    assert "no image is stored" in text
    assert "cannot be shown" in text


def test_foreign_text_is_never_markup(out):
    hostile = "</para><b>&amp;<img src='/etc/passwd'/> a<&>b"
    content = samples.decision(
        part=Part(serial=hostile, lot=hostile, product=hostile, view=hostile),
        station=hostile,
        predicted=hostile,
        explanation=replace(samples.decision().explanation, target=hostile, layer=hostile),
        reviews=(Review(truth="good", reviewer=hostile, at=samples.START, note=hostile, defect_type=hostile),),
        model=samples.model(name=hostile, architecture=hostile, evaluation=((hostile, hostile),)),
        environment=((hostile, hostile),),
    )
    text = written(content, out)
    assert text.count("a<&>b") >= 12
    assert "Serial number </para><b>&amp;<img" in text


@pytest.mark.parametrize(
    ("serial", "shown"),
    [
        ("Größe-Žižkov-Łó", "Größe-Žižkov-Łó"),
        ("件-7", "[U+4EF6]-7"),
        ("A\u202eB", "A[U+202E]B"),
        ("A\u200bB", "A[U+200B]B"),
        ("A\u00adB", "A[U+00AD]B"),
        ("А-1", "[U+0410]-1"),  # Cyrillic A: not the Latin one it looks like
        ("e\u0301", "e[U+0301]"),
    ],
)
def test_what_the_fonts_cannot_show_is_shown_as_its_code_point(serial, shown, out):
    assert f"Serial number {shown} Lot" in written(samples.decision(part=Part(serial=serial, lot="L1")), out)


def test_every_page_explains_the_numbers_that_stand_for_characters(out):
    explained = "[U+…] stands for a recorded character, by its number in Unicode, that the typefaces of this report cannot show."
    decision_report(samples.decision(part=Part(serial="部品-7")), out)
    assert all(explained in page for page in reading.pages(out))
    assert reading.outside(out, MARGIN) == []
    assert explained not in written(samples.decision(part=Part(serial="Größe-7")), out)


def test_two_reports_at_once_do_not_explain_each_others_characters(tmp_path):
    serials = ["部品-7", "SN-7"] * 3
    files = [tmp_path / f"{number}.pdf" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(
            pool.map(
                lambda serial, file: decision_report(samples.decision(part=Part(serial=serial)), file), serials, files
            )
        )
    # One at a time: PDFium may not be used by several threads.
    assert ["[U+…]" in reading.text(file) for file in files] == [True, False] * 3


@pytest.mark.parametrize("character", ["W", "件"])
def test_the_longest_texts_stay_inside_the_page(character, out):
    name, note = character * 200, character * 2000
    content = samples.decision(
        part=Part(serial=name, lot=name, product=name, view=name),
        station=name,
        model=samples.model(name=name, architecture=note, classes=(name,), evaluation=((name, note),)),
        explanation=replace(samples.decision().explanation, target=name, layer=name, method=name),
        reviews=(Review(truth="defective", reviewer=name, at=samples.START, note=note, defect_type=name),),
        environment=((name, note),),
    )
    decision_report(content, out)
    assert reading.outside(out, MARGIN) == []
    decision_report(replace(samples.failed(), failure=replace(samples.failed().failure, code=name, sentence=note)), out)
    assert reading.outside(out, MARGIN) == []


def test_every_footer_names_its_page_and_the_time(out):
    decision_report(samples.decision(), out)
    pages = reading.pages(out)
    assert len(pages) > 2
    for number, page in enumerate(pages, start=1):
        assert f"Page {number} of {len(pages)}" in page
        assert "Generated 2026-03-10 15:04:05 UTC with traceai 0.1.0" in page
        assert "Report R-2026-0310-7f3a" in page


def test_metadata_and_outline_lead_through_the_document(out):
    decision_report(samples.decision(), out)
    about = reading.metadata(out)
    assert about["Title"] == "Inspection decision: SN-0042-7781"
    assert about["Author"] == "m.ferrer"
    assert about["Subject"] == "Inspection decision, report R-2026-0310-7f3a"
    assert about["CreationDate"] == "D:20260310150405Z"
    titles = [title for _, title, _ in reading.outline(out)]
    assert titles[:2] == ["Score and operating point", "Class scores"]
    assert titles[-1] == "What this report does not show"
    pages = reading.pages(out)
    assert all(title in pages[page] for _, title, page in reading.outline(out))
    assert b"/Lang (en-GB)" in out.read_bytes()


def test_no_font_is_left_to_the_reader(out):
    decision_report(samples.decision(), out)
    data = out.read_bytes()
    assert b"/Helvetica" not in data
    assert data.count(b"/FontFile") == data.count(b"/Type /FontDescriptor")


def test_equal_content_gives_equal_bytes_and_the_digest_is_theirs(out, tmp_path):
    first = decision_report(samples.decision(), out)
    assert first == hashlib.sha256(out.read_bytes()).hexdigest()
    assert decision_report(samples.decision(), tmp_path / "again.pdf") == first
    assert decision_report(samples.decision(station_seq=7), tmp_path / "other.pdf") != first


def test_another_process_writes_the_same_bytes(out):
    program = (
        "import sys; from pathlib import Path; from tests.reports import samples; from traceai_reports import "
        "decision_report; print(decision_report(samples.decision(), Path(sys.argv[1])))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", program, str(out)], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert elsewhere.stdout.strip() == decision_report(samples.decision(), out)


def test_a_decision_is_either_a_verdict_or_a_failure():
    with pytest.raises(InputError, match="exactly one"):
        samples.decision(failure=samples.failed().failure)
    with pytest.raises(InputError, match="exactly one"):
        samples.decision(verdict=None)
