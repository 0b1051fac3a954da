"""The whole story on a few images: nothing of it is worth showing, all of it has to work."""

import csv
import shutil
from pathlib import Path

import pypdfium2
import pytest

from tests.cli.conftest import Run
from traceai.data.synth import Scene, write_dataset
from traceai.sdk import Trace


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(
        tmp_path_factory.mktemp("demo") / "parts", count=60, seed=3, defect_rate=0.5, scene=Scene(size=64), workers=1
    )


def pdf_text(path: Path) -> str:
    document = pypdfium2.PdfDocument(path)
    text = "\n".join(page.get_textpage().get_text_range() for page in document)
    document.close()
    return text


@pytest.mark.slow
def test_from_images_to_verified_reports_twice(run: Run, here: Trace, parts: Path, tmp_path: Path) -> None:
    for version in (1, 2):
        result = run("demo", "--data", parts, "--out", tmp_path / "out", "--steps", "4")
        assert result.code == 0, result.err
        assert f"parts@{version}" in result.out
        assert "SIMULATED" in result.out
        assert "Try next" in result.out
    audit = pdf_text(tmp_path / "out" / "audit.pdf")
    assert "SIMULATED" in audit
    assert "parts@2" in audit
    assert "SIMULATED" in pdf_text(tmp_path / "out" / "decision.pdf")
    assert run("ledger", "verify").code == 0
    assert run("model", "list", "--json").json[0]["state"] == "replaced"


@pytest.mark.slow
def test_defect_types_without_a_good_class(run: Run, here: Trace, parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "types"
    shutil.copytree(parts, folder)
    with (folder / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == "defect"]
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    result = run("demo", "--data", folder, "--out", tmp_path / "out", "--steps", "4")
    assert result.code == 0, result.err
    assert "has no good class" in result.out
    assert "not estimable" in result.out
    listed = run("decision", "list", "--json").json["items"]
    assert {item["verdict"] for item in listed} == {"undecided"}
    assert all(item["predicted"] for item in listed)
    assert "no good class" in pdf_text(tmp_path / "out" / "decision.pdf")


def test_a_folder_that_cannot_be_held_out_from_is_refused(
    run: Run, here: Trace, tmp_path: Path, images: list[Path]
) -> None:
    (tmp_path / "one" / "good").mkdir(parents=True)
    shutil.copy(images[0], tmp_path / "one" / "good")
    result = run("demo", "--data", tmp_path / "one", "--out", tmp_path / "out")
    assert result.code == 2
    assert "[dataset-invalid]" in result.err
