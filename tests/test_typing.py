"""The types of the public API are what ``tests/typing`` says, as ``mypy --strict`` reads it."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import processes
import pytest

pytestmark = pytest.mark.once

HERE = Path(__file__).parent


@pytest.mark.skipif(not importlib.util.find_spec("mypy"), reason="mypy is not installed")
def test_type_checker_agrees_with_the_contract(tmp_path: Path) -> None:
    """``mypy`` reports what is wrong, and each ``type: ignore`` that marks nothing wrong."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file="]
    command += ["--follow-imports=silent"]  # the package itself is checked elsewhere
    done = processes.command(
        [*command, f"--cache-dir={tmp_path}", str(HERE / "typing" / "contract.py")],
        cwd=HERE.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr


CHECKERS = {
    "mypy": ["--strict", "--config-file=", "--follow-imports=silent", "--no-pretty"],
    "pyright": ["--outputjson"],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_checkers_find_each_mistake_and_nothing_else(checker: str, tmp_path: Path) -> None:
    """A mistake is a line of the file that ends in ``# error``, as it says itself."""
    if not importlib.util.find_spec(checker):
        pytest.skip(f"{checker} is not installed")
    path = HERE / "typing" / "declared.py"
    more = [f"--cache-dir={tmp_path}"] if checker == "mypy" else []
    command = [sys.executable, "-m", checker, *CHECKERS[checker], *more, str(path)]
    done = processes.command(command, cwd=HERE.parent, expected=1)
    if checker == "mypy":
        found = {int(line) for line in re.findall(r"declared\.py:(\d+): error", done.stdout)}
    else:
        found = {
            each["range"]["start"]["line"] + 1
            for each in json.loads(done.stdout)["generalDiagnostics"]
            if each["severity"] == "error"
        }
    lines = path.read_text().splitlines()
    wanted = {number for number, line in enumerate(lines, 1) if line.endswith("# error")}
    assert wanted
    assert (sorted(found - wanted), sorted(wanted - found)) == ([], []), done.stdout
