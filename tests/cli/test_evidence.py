"""`traceai ledger prove` and `traceai verify`, and the same program without anything but `cryptography`."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.ledger import evidence_samples as samples
from tests.ledger.evidence_samples import DECISION, HEAT_MAP, IMAGE, LOG, WITNESSES, plant
from traceai.errors import VerificationError
from traceai.images.decode import identify
from traceai.ledger import records, verify
from traceai.sdk import Trace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def inspected(run: Run, here: Trace, tiny: str, images: list[Path]) -> list[dict]:
    here.add_station("press-4", audit_pass_probability=1.0)
    result = run("inspect", *images[:3], "--model", "tiles", "--station", "press-4", "--lot", "L7", "--json")
    assert result.code == 0
    return result.json


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "decision.evidence.json"
    path.write_bytes(plant().file(DECISION))
    (tmp_path / "image").write_bytes(IMAGE)
    (tmp_path / "heat-map").write_bytes(HEAT_MAP)
    return path


# --- from the ledger to the auditor ---------------------------------------------------------------------------------


def test_a_decision_leaves_the_house_and_is_verified_elsewhere(
    run: Run, here: Trace, inspected: list[dict], images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, image, heat_map = tmp_path / "it.evidence.json", tmp_path / "image.png", tmp_path / "grid"
    proved = run("ledger", "prove", inspected[1]["id"], "-o", out, "--image", image, "--heat-map", heat_map)
    assert proved.code == 0, proved.err
    assert str(out) in proved.out
    assert image.read_bytes() == images[1].read_bytes()
    key = str(here.signer.state().key)
    # Elsewhere: no database, no home.
    monkeypatch.setenv("TRACEAI_DATABASE_URL", "postgresql://nobody@192.0.2.1/none")
    monkeypatch.setenv("TRACEAI_HOME", "/nowhere/at/all")
    result = run("verify", out, "--key", key, "--image", image, "--heat-map", heat_map)
    assert result.code == 0, result.err
    assert "FAILS" not in result.out
    assert inspected[1]["id"] in result.out
    assert "this decision is in the log whose key you gave" in result.out
    found = run("verify", out, "--key", key, "--json").json
    assert found["holds"] is found["trusted"] is True
    assert found["decision"]["id"] == inspected[1]["id"]


def test_a_decision_is_proved_by_its_index_too(run: Run, inspected: list[dict], tmp_path: Path) -> None:
    assert run("ledger", "prove", inspected[0]["index"], "-o", tmp_path / "it").code == 0
    assert run("verify", tmp_path / "it").code == 0


def test_what_is_not_there_cannot_be_proved(run: Run, inspected: list[dict], tmp_path: Path) -> None:
    missing = run("ledger", "prove", "01a209f6-0000-7000-8000-000000000000", "-o", tmp_path / "it")
    assert missing.code == 2
    assert "[decision-not-found]" in missing.err
    assert not (tmp_path / "it").exists()
    assert run("ledger", "prove", inspected[0]["id"], "-o", tmp_path / "no" / "it").code == 2


@pytest.mark.parametrize(
    ("out", "image", "heat_map"),
    [("no/x", "p", "g"), ("x", "no/p", "g"), ("x", "p", "no/g"), (".", "p", "g"), ("x", "p", "."), ("x", "x", "g")],
)
def test_all_files_are_written_or_none(
    run: Run, inspected: list[dict], tmp_path: Path, out: str, image: str, heat_map: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    result = run(
        "ledger", "prove", inspected[0]["id"], "-o", folder / out, "--image", folder / image, "--heat-map", folder / heat_map
    )  # fmt: skip
    assert result.code == 2
    assert result.err.endswith(" [bad-input]\n")
    assert not [*folder.iterdir()]


def test_a_ledger_that_does_not_lead_to_its_checkpoint_proves_nothing(
    run: Run, here: Trace, inspected: list[dict], tmp_path: Path, sql
) -> None:
    here.checkpoint()
    sql('UPDATE journal SET leaf_hash = %s WHERE "index" = %s', bytes(32), inspected[0]["index"])
    result = run("ledger", "prove", inspected[1]["id"], "-o", tmp_path / "it")
    assert result.code == 1
    assert not (tmp_path / "it").exists()


# --- what the auditor is told ------------------------------------------------------------------------------------------


def test_without_a_key_the_last_line_says_that_trust_is_not_established(run: Run, file: Path) -> None:
    result = run("verify", file)
    assert result.code == 0
    assert "TRUST IS NOT ESTABLISHED" in result.out
    assert run("verify", file, "--json").json["trusted"] is False


def test_a_key_of_somebody_else_exits_1(run: Run, file: Path) -> None:
    result = run("verify", file, "--key", samples.key(samples.ORIGIN, 1).verifier)
    assert result.code == 1
    assert "None of the keys that you gave signed this checkpoint." in result.out
    assert "does not verify" in result.err


def test_a_changed_byte_exits_1_and_says_so_in_json_as_well(run: Run, file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"press-4", b"press-5", 1))
    result = run("verify", file, "--key", LOG.verifier, "--json")
    assert result.code == 1
    assert result.json["holds"] is False
    assert "included" in {fact["name"] for fact in result.json["facts"] if fact["holds"] is False}


def test_witnesses_image_and_heat_map_are_checked_where_they_are_given(run: Run, file: Path) -> None:
    first, second, third = (witness.verifier for witness in WITNESSES)
    folder = file.parent
    good = ["--witness", first, "--witness", second, "--image", folder / "image", "--heat-map", folder / "heat-map"]
    assert run("verify", file, "--key", LOG.verifier, *good).code == 0
    assert run("verify", file, "--witness", first, "--witness", third).code == 1
    assert run("verify", file, "--witness", first, "--witness", third, "--threshold", 1).code == 0
    assert run("verify", file, "--image", folder / "heat-map").code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--key", "nonsense"], ["--key", WITNESSES[0].verifier], ["--witness", LOG.verifier], ["--threshold", 1],
        ["--witness", WITNESSES[0].verifier, "--threshold", 2], ["--image", "/nowhere"], ["--tsa", "/nowhere"],
        ["--tsa", __file__],
    ],
)  # fmt: skip
def test_bad_usage_exits_2(run: Run, file: Path, arguments: list) -> None:
    result = run("verify", file, *arguments)
    assert result.code == 2
    assert result.err


def test_a_missing_file_exits_2(run: Run, tmp_path: Path) -> None:
    assert run("verify", tmp_path / "nothing").code == 2
    assert run("verify", tmp_path).code == 2


def test_a_pdf_is_told_from_an_evidence_file(run: Run, tmp_path: Path) -> None:
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF-1.7\nmore")
    result = run("verify", report)
    assert result.code == 2
    assert identify(report.read_bytes()) in result.err
    assert "report/1" in result.err


# --- the program for itself ----------------------------------------------------------------------------------------------


def test_the_program_prints_the_facts_and_its_exit_code_is_theirs(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main([str(file), "--key", str(LOG.verifier)]) == 0
    assert "holds        signer trusted" in capsys.readouterr().out
    assert verify.main([str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trusted"] is False
    file.write_bytes(b"{}\n")
    assert verify.main([str(file)]) == 1
    assert "FAILS" in capsys.readouterr().out
    assert verify.main([str(file), "--key", "nonsense"]) == 2
    with pytest.raises(SystemExit) as usage:
        verify.main([])
    assert usage.value.code == 2


def test_a_crash_is_told_from_a_failed_verification(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(verify, "verify", crash)
    assert verify.main([str(file)]) == 3
    assert "verified and refuted nothing" in capsys.readouterr().err

    def refuse(*_: object, **__: object) -> None:
        raise VerificationError("No.")

    monkeypatch.setattr(verify, "verify", refuse)
    assert verify.main([str(file)]) == 1


@pytest.mark.slow
def test_it_runs_with_nothing_but_cryptography_and_the_wheel(file: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    for name in ("cryptography", "cffi", "pycparser"):
        brought_in(name, site)
    program = (
        "import importlib.util, runpy, sys\n"
        "absent = [name for name in ('sqlalchemy', 'sqlmodel', 'psycopg', 'pydantic', 'numpy', 'torch', 'typer', 'rich',"
        " 'rfc8785', 'orjson', 'zstandard', 'rfc3161_client') if importlib.util.find_spec(name) is not None]\n"
        "assert not absent, absent\n"
        "import socket\n"
        "socket.socket = None\n"
        "runpy.run_module('traceai.ledger.verify', run_name='__main__')\n"
    )

    def typed(*arguments: object) -> subprocess.CompletedProcess[str]:
        # -I: neither this folder, nor the environment's, nor the user's packages; -S: no site-packages either.
        start = f"import sys; sys.path.insert(0, {str(site)!r})\n{program}"
        return subprocess.run(
            [sys.executable, "-I", "-S", "-c", start, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path,
            env={"PATH": os.environ["PATH"]}, check=False,
        )  # fmt: skip

    pictures = ["--image", tmp_path / "image", "--heat-map", tmp_path / "heat-map"]
    done = typed(file, "--key", LOG.verifier, "--witness", WITNESSES[0].verifier, *pictures)
    assert done.returncode == 0, done.stderr
    assert "this decision is in the log whose key you gave" in done.stdout
    golden = ROOT / "tests/ledger/golden/0.0.1"
    told = json.loads(typed(golden / "decision.evidence.json", "--json", "--tsa", golden / "tsa.pem").stdout)
    facts = {fact["name"]: fact["sentence"] for fact in told["facts"]}
    assert told["holds"] is True
    assert "rfc3161-client is not installed" in facts["timestamps"]
    assert typed(file, "--key", samples.key(samples.ORIGIN, 1).verifier).returncode == 1
    assert typed(file, "--key", "nonsense").returncode == 2
    file.write_bytes(file.read_bytes()[:-2])
    assert typed(file).returncode == 1


def test_without_cryptography_it_is_a_crash_and_no_failed_verification(file: Path) -> None:
    run = "import runpy; runpy.run_module('traceai.ledger.verify', run_name='__main__')"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {run}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, file], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "not installed" in done.stderr


def test_a_name_that_the_terminal_cannot_show_is_told_all_the_same(file: Path) -> None:
    part = records.Part(serial="部品-1")
    log = plant().replaced(DECISION, samples.inspection(DECISION, part=part))
    file.write_bytes(log.file(DECISION, [0, 1, 3, 4, 6]))
    done = subprocess.run(
        [sys.executable, "-m", "traceai.ledger.verify", file], capture_output=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0
    assert b"serial \\u90e8\\u54c1-1" in done.stdout


def brought_in(name: str, site: Path) -> None:
    """Copy an installed distribution; of compiled modules beside its package, too."""
    for found in distribution(name).files or ():
        source = Path(str(found.locate()))
        if ".." not in found.parts and "__pycache__" not in found.parts and source.is_file():
            target = site / found
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def test_importing_the_verifier_imports_nothing_heavy() -> None:
    code = "import sys, traceai.ledger.verify; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "cryptography" in loaded
    heavy = {
        "sqlalchemy",
        "sqlmodel",
        "pydantic",
        "numpy",
        "torch",
        "typer",
        "rich",
        "rfc8785",
        "orjson",
        "psycopg",
        "fsspec",
    }
    assert not heavy & {*loaded}


def test_the_names_of_the_package_are_there_when_they_are_asked_for() -> None:
    code = (
        "import sys, traceai; assert 'sqlalchemy' not in sys.modules;"
        "from traceai import Trace, Verdict, connect; assert traceai.Trace is Trace;"
        "assert {*traceai.__all__} <= {*dir(traceai)}; assert traceai.__version__;"
        "from traceai import *; Decision, Inspector, Item, TraceaiError"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import traceai

    with pytest.raises(AttributeError):
        _ = traceai.nothing
