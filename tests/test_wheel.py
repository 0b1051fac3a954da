"""What is shipped: the wheel migrates and inspects from a folder of its own, without the checkout."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_brings_its_migrations_and_needs_no_checkout(open_folder: Callable[[], Path], tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel],
        check=True,
    )
    assert {path.name for path in site.iterdir() if path.is_dir() and not path.name.endswith(".dist-info")} == {
        "traceai", "traceai_api", "traceai_reports", "traceai_migrations", "bin",
    }  # fmt: skip
    home = open_folder()
    code = (
        "import sys, traceai, traceai_migrations; from traceai.cli import main;"
        f"assert traceai.__file__.startswith({str(site)!r}), traceai.__file__;"
        "main()"
    )

    def typed(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True, cwd=home,
            env={**os.environ, "PYTHONPATH": str(site), "TRACEAI_HOME": str(home / "home"), "COLUMNS": "200"},
        ).stdout  # fmt: skip

    assert "0001" in typed("db", "upgrade")
    assert "enforced on every evidence table" in typed("db", "check")
    typed("station", "add", "press-4")
    assert "holds" in typed("ledger", "verify")
