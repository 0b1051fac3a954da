import pytest

from tests.reports import samples
from traceai.errors import InputError
from traceai_reports import audit_report, decision_report
from traceai_reports.document import write


@pytest.mark.parametrize("report", [(decision_report, samples.decision), (audit_report, lambda: samples.audit(20))])
def test_a_missing_folder_is_one_sentence(report, tmp_path):
    build, content = report
    with pytest.raises(InputError, match=r"cannot be written to .*missing.*; choose a folder") as caught:
        build(content(), tmp_path / "missing" / "report.pdf")
    assert "\n" not in caught.value.message


def test_a_file_in_place_of_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "file" / "report.pdf", b"x")


def test_a_failed_write_keeps_the_old_report_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "report.pdf").mkdir()
    (tmp_path / "report.pdf" / "inside").write_text("old")
    with pytest.raises(InputError):
        write(tmp_path / "report.pdf", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["report.pdf"]
    assert (tmp_path / "report.pdf" / "inside").read_text() == "old"


def test_a_report_replaces_an_older_one(tmp_path):
    out = tmp_path / "report.pdf"
    out.write_bytes(b"old")
    write(out, b"new")
    assert out.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["report.pdf"]
