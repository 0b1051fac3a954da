"""`traceai model export` and `traceai inspect --onnx`."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from traceai.images.decode import identify
from traceai.sdk import Trace


def test_a_version_is_written_told_and_inspected_with(
    run: Run, here: Trace, tiny: str, images: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "tiles.onnx"
    written = run("model", "export", tiny, "--format", "onnx", "-o", out)
    assert written.code == 0
    assert identify(out.read_bytes()) in written.out
    assert "its verdicts are those of torch" in written.out
    here.add_station("press-4")
    inspected = run("inspect", images[0].parent, "--onnx", out, "--station", "press-4", "--json")
    assert inspected.code == 0
    assert len(inspected.json) == 12
    assert run("ledger", "verify").code == 0
    evidence = tmp_path / "one.evidence.json"
    assert run("ledger", "prove", inspected.json[0]["id"], "-o", evidence).code == 0
    proved = run("verify", evidence)
    assert proved.code == 0
    assert "agreed with it on 22 pictures" in " ".join(proved.out.split())
    replayed = run("decision", "replay", inspected.json[0]["id"])
    assert replayed.code == 0
    assert f"runtime export was {identify(out.read_bytes())} and is not named." in replayed.out
    shown = run("model", "show", tiny)
    assert identify(out.read_bytes())[:16] in shown.out
    assert len(run("model", "show", tiny, "--json").json["exports"]) == 1


def test_json_has_the_record_and_the_path(
    run: Run, here: Trace, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = run("model", "export", "tiles", "--json", "--as", "erin").json
    assert told["path"] == "tiles-1.onnx"
    assert told["sha256"] == identify((tmp_path / "tiles-1.onnx").read_bytes())
    assert (told["model_name"], told["model_version"], told["made_by"]) == ("tiles", 1, "erin")


def test_what_is_refused_leaves_no_file(run: Run, here: Trace, tiny: str, tmp_path: Path) -> None:
    out = tmp_path / "tiles.onnx"
    assert run("model", "export", "tiles@7", "-o", out).code == 2
    assert run("model", "export", tiny, "--format", "tflite", "-o", out).code == 2
    assert run("model", "export", tiny, "-o", tmp_path / "none" / "tiles.onnx").code == 2
    run("model", "retire", tiny, "--reason", "Too many misses.")
    refused = run("model", "export", tiny, "-o", out)
    assert refused.code == 2
    assert "retired" in refused.err
    assert list(tmp_path.glob("*.onnx*")) == []


def test_either_a_model_or_a_file(run: Run, here: Trace, tiny: str, images: list[Path]) -> None:
    here.add_station("press-4")
    for arguments in ([], ["--model", "tiles", "--onnx", "x.onnx"]):
        for command in (["inspect", images[0]], ["watch", images[0].parent]):
            refused = run(*command, "--station", "press-4", *arguments)
            assert refused.code == 2
            assert "--model NAME or with --onnx FILE" in refused.err
    tampered = run("inspect", images[0], "--station", "press-4", "--onnx", images[1])
    assert tampered.code == 1
    assert "not on record as an export" in tampered.err
