"""The types of the public API are what ``tests/typing`` says, as ``mypy --strict`` reads it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(not importlib.util.find_spec("mypy"), reason="mypy is not installed")
def test_type_checker_agrees_with_the_contract(tmp_path: Path) -> None:
    """``mypy`` reports what is wrong, and each ``type: ignore`` that marks nothing wrong."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file="]
    command += ["--follow-imports=silent"]  # the package itself is checked elsewhere
    done = subprocess.run(
        [*command, f"--cache-dir={tmp_path}", str(HERE / "typing" / "contract.py")],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
