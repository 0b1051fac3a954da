import os
from collections.abc import Callable
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image
from sqlalchemy import select

from tests.cli.conftest import Run
from traceai.db.tables import Journal
from traceai.images.decode import identify
from traceai.ledger.entry import Entry
from traceai.sdk import Trace


@pytest.fixture
def station(here: Trace, tiny: str) -> str:
    here.add_station("press-4", audit_pass_probability=1.0)
    return "press-4"


@pytest.fixture
def inspected(run: Run, station: str, images: list[Path]) -> list[dict]:
    result = run("inspect", images[0].parent, "--model", "tiles", "--station", station, "--lot", "L7", "--json")
    assert result.code == 0
    return result.json


def test_a_folder_is_inspected_in_name_order(inspected: list[dict], images: list[Path]) -> None:
    assert [found["source"] for found in inspected] == [str(path) for path in images]
    assert [found["station_seq"] for found in inspected] == list(range(1, 13))
    assert {found["verdict"] for found in inspected} <= {"pass", "reject", "undecided"}


def test_one_unreadable_image_among_others_is_named_and_exits_2(
    run: Run, station: str, images: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    result = run("inspect", images[0], broken, images[1], "--model", "tiles", "--station", station)
    assert result.code == 2
    assert "3 recorded" in result.out
    assert "[image-format]" in result.out
    listed = run("decision", "list", "--json").json["items"]
    assert [item["failure_code"] for item in listed] == [None, "image-format", None]


def test_decisions_are_listed_filtered_and_paged(run: Run, inspected: list[dict]) -> None:
    first = run("decision", "list", "--limit", 5, "--json").json
    assert [item["id"] for item in first["items"]] == [found["id"] for found in inspected][:-6:-1]
    rest = run("decision", "list", "--limit", 100, "--after", first["next"], "--json").json
    assert len(rest["items"]) == 7
    assert rest["next"] is None
    assert run("decision", "list", "--lot", "L8", "--json").json["items"] == []
    assert run("decision", "list", "--lot", "L8").out == "Nothing found.\n"
    assert run("review", "queue", "--station", "press-9").out.startswith("Nothing found")
    assert run("review", "queue", "--station", "press-9", "--json").json == []
    shown = run("decision", "list", "--lot", "L7", "--limit", 3)
    assert inspected[-1]["id"] in shown.out
    assert "--after" in shown.out


def test_a_decision_is_shown_with_who_approved_its_model(run: Run, inspected: list[dict]) -> None:
    result = run("decision", "show", inspected[0]["id"])
    assert result.code == 0
    for word in (inspected[0]["leaf_hash"], "ada", "Evaluated on the test split.", "press-4 #1", "L7", "grad-cam"):
        assert word in result.out
    shown = run("decision", "show", inspected[0]["index"], "--json").json
    assert shown["record"]["id"] == inspected[0]["id"]
    assert shown["ledger"]["leaf_hash"] == inspected[0]["leaf_hash"]


def test_an_explanation_is_drawn_to_a_file(run: Run, inspected: list[dict], tmp_path: Path) -> None:
    out = tmp_path / "why.png"
    assert run("decision", "explain", inspected[0]["id"], "-o", out).code == 0
    with Image.open(out) as picture:
        assert picture.size[0] > 300
    again = tmp_path / "again.png"
    run("decision", "explain", inspected[0]["id"], "-o", again)
    assert again.read_bytes() == out.read_bytes()


def test_the_queue_does_not_show_the_verdict_and_empties_with_reviews(run: Run, inspected: list[dict]) -> None:
    queue = run("review", "queue", "--json").json
    assert len(queue) == 12
    assert all("verdict" not in row for row in queue)
    assert "PASS" not in run("review", "queue").out
    result = run("review", "add", queue[0]["id"], "--truth", "defective", "--type", "dent", "--as", "ruth")
    assert result.code == 0
    assert len(run("review", "queue", "--json").json) == 11
    assert "ruth" in run("decision", "show", queue[0]["id"]).out


def test_rates_say_what_cannot_be_estimated(run: Run, inspected: list[dict]) -> None:
    shown = run("rates")
    assert shown.code == 0
    assert "not estimable" in shown.out
    for found in inspected:
        run("review", "add", found["id"], "--truth", "good" if found["verdict"] == "pass" else "defective")
    rates = run("rates", "--model", "tiles@1", "--json").json[0]
    assert rates["reviewed"] == 12
    assert rates["rates"]["overkill_rate"]["estimate"] == 0 or rates["rates"]["rejected"]["decisions"] == 0
    assert rates["rates"]["escape_rate"]["high"] > 0
    by_version = run("rates", "--by", "version", "--json").json
    assert [report["group"] for report in by_version] == ["tiles@1"]
    # A group is named as `--model` takes it.
    assert run("rates", "--model", by_version[0]["group"], "--json").json == [{**by_version[0], "group": None}]


def test_no_rate_and_no_report_comes_from_an_altered_audit_draw(
    run: Run, inspected: list[dict], sql: Callable[..., list[tuple]], tmp_path: Path
) -> None:
    sql("UPDATE inspection SET audit_probability = NULL WHERE id = %s", inspected[0]["id"])
    for command in (["rates"], ["report", "audit", "-o", tmp_path / "audit.pdf"]):
        result = run(*command)
        assert result.code == 1
        assert "run `traceai ledger verify`" in result.err
    assert not (tmp_path / "audit.pdf").exists()
    assert run("ledger", "verify").code == 1


def test_reports_are_written_and_their_digests_entered_in_the_ledger(
    run: Run, here: Trace, inspected: list[dict], tmp_path: Path
) -> None:
    for name, arguments in (("audit", ["audit", "--lot", "L7"]), ("decision", ["decision", inspected[0]["id"]])):
        out = tmp_path / f"{name}.pdf"
        result = run("report", *arguments, "-o", out, "--for", "Notified Body 0123")
        assert result.code == 0
        assert identify(out.read_bytes()) in result.out
        document = pypdfium2.PdfDocument(out)
        text = "".join(page.get_textpage().get_text_range() for page in document)
        assert "Notified Body 0123" in text
        document.close()
    assert "L7" in text
    # Both were signed before they were written, the second after the first was entered.
    signed = here.signer.store.newest()
    assert signed is not None
    assert signed.size == len(_journal(here)) - 1
    assert f"It fixes all {signed.size} entries of the ledger" in text
    assert signed.origin in text
    assert run("ledger", "verify").code == 0
    assert "report/1" in {row["schema"] for row in _journal(here)}


def _journal(trace: Trace) -> list[dict]:
    with trace.database.engine.connect() as connection:
        rows = connection.execute(select(Journal)).all()
        return [Entry.parse(row.entry).fields for row in rows]


def test_verification_exits_1_and_names_the_place(run: Run, inspected: list[dict], sql) -> None:
    assert run("ledger", "verify").code == 0
    sql("UPDATE inspection SET verdict = 'pass', lot = 'L8' WHERE journal_index = %s", inspected[3]["index"])
    result = run("ledger", "verify")
    assert result.code == 1
    assert (
        f"table inspection, journal index {inspected[3]['index']} ({inspected[3]['id']}), column lot: L8 stands, L7 was recorded"
        in (result.out)
    )
    found = run("ledger", "verify", "--json")
    assert found.code == 1
    assert found.json["holds"] is False
    assert [fact["name"] for fact in found.json["facts"] if not fact["holds"]] == ["tables"]


def test_the_status_of_the_ledger(run: Run, here: Trace, inspected: list[dict]) -> None:
    status = run("ledger", "status", "--json").json
    assert status["size"] == inspected[-1]["index"] + 1
    assert status["root"] in run("ledger", "status").out


def test_data_is_imported_shown_and_imported_once(run: Run, here: Trace, classes: Path) -> None:
    first = run("data", "import", classes, "--name", "plates")
    assert first.code == 0
    assert "12 images" in first.out
    again = run("data", "import", classes, "--name", "plates")
    assert "nothing was added" in again.out
    listed = run("data", "show", "--json").json
    assert [row["name"] for row in listed] == ["plates"]
    assert "scratch" in run("data", "show", "plates").out


def test_an_unreadable_image_is_left_out_and_named(run: Run, here: Trace, classes: Path) -> None:
    (classes / "good" / "broken.png").write_bytes(b"nothing")
    result = run("data", "import", classes, "--name", "plates")
    assert result.code == 2
    assert "good/broken.png" in result.err
    assert "12 images" in result.out


def test_the_life_of_a_version(run: Run, here: Trace, tiny: str) -> None:
    assert run("model", "list", "--json").json[0]["state"] == "active"
    assert "ada" in run("model", "show", "tiles@1").out
    assert run("model", "retire", "tiles@1", "--reason", "replaced", "--as", "ada").code == 0
    assert run("model", "list", "--json").json[0]["state"] == "retired"
    result = run("model", "activate", "tiles@1")
    assert result.code == 2
    assert "[model-state]" in result.err


def test_users_tokens_and_stations(run: Run, here: Trace) -> None:
    assert run("user", "add", "alice", "--role", "auditor").code == 0
    token = run("token", "create", "--user", "alice").out.strip()
    assert token.startswith("traceai_")
    assert run("user", "list", "--json").json[0]["name"] == "alice"
    assert run("station", "add", "press-4", "--audit", "0.1").code == 0
    assert run("station", "list", "--json").json[0]["audit_pass_probability"] == pytest.approx(0.1)


def test_db_commands(run: Run, here: Trace, clone: str, sql) -> None:
    assert run("db", "url").out.strip().startswith("postgresql://")
    assert run("db", "upgrade").code == 0
    assert run("db", "check", "--json").json["unprotected_tables"] == []
    sql("SELECT 1")  # switches the triggers off
    result = run("db", "check", "--json")
    assert result.code == 1
    assert "journal" in result.json["unprotected_tables"]


def test_parts_are_drawn_into_a_folder_that_imports(run: Run, here: Trace, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    assert run("data", "synth", folder, "--count", 24, "--size", 96, "--defect-rate", 0.7).code == 0
    assert run("data", "import", folder, "--name", "parts").code == 0
    assert run("data", "synth", folder, "--count", 24).code == 2


def test_brackets_in_a_serial_number_are_data(run: Run, station: str, images: list[Path]) -> None:
    assert run("inspect", images[0], "--model", "tiles", "--station", station, "--serial", "[/x] [bold]y").code == 0
    for command in (("decision", "list"), ("review", "queue")):
        assert "[/x] [bold]y" in run(*command).out


def test_a_report_that_cannot_be_entered_is_not_left_behind(run: Run, inspected: list[dict], tmp_path: Path) -> None:
    out = tmp_path / "x.pdf"
    result = run("report", "audit", "-o", out, "--as", "line\nbreak")
    assert result.code == 2
    assert not list(tmp_path.glob("*x.pdf*"))


@pytest.fixture
def unusable(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place where no PDF can be put, of the kind that the test asks for."""
    out = tmp_path / "taken"
    if request.param == "folder":
        out.mkdir()
    elif request.param == "link to a folder":
        out.symlink_to(tmp_path)
    elif request.param == "device":
        os.mkfifo(out)
    elif request.param == "somebody else's":
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(0o1777)
        out = tmp_path / "shared" / "taken.pdf"
        out.write_bytes(b"theirs")
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    else:
        (tmp_path / "file").touch()
        out = tmp_path / "file" / "x.pdf"
    return out


@pytest.mark.parametrize(
    "unusable", ["folder", "link to a folder", "device", "somebody else's", "below a file"], indirect=True
)
@pytest.mark.parametrize("kind", ["audit", "decision"])
def test_a_report_that_cannot_be_put_anywhere_is_not_on_record(
    run: Run, here: Trace, inspected: list[dict], unusable: Path, kind: str
) -> None:
    about, before = ([inspected[0]["id"]] if kind == "decision" else []), len(_journal(here))
    result = run("report", kind, *about, "-o", unusable)
    assert (result.code, "[bad-input]" in result.err) == (2, True)
    assert str(unusable) in result.err
    assert len(_journal(here)) == before


def test_a_report_takes_the_place_of_an_older_one_and_of_a_link(
    run: Run, inspected: list[dict], tmp_path: Path
) -> None:
    (tmp_path / "old.pdf").write_bytes(b"old")
    (tmp_path / "link.pdf").symlink_to(tmp_path / "nowhere.pdf")
    for name in ("old.pdf", "link.pdf"):
        assert run("report", "decision", inspected[0]["id"], "-o", tmp_path / name).code == 0
        assert (tmp_path / name).read_bytes().startswith(b"%PDF-")


def test_tokens_are_revoked(run: Run, here: Trace) -> None:
    run("user", "add", "alice", "--role", "auditor")
    run("token", "create", "--user", "alice")
    assert "Revoked 1 tokens" in run("token", "revoke", "--user", "alice").out
