"""Which tests are about which module, and a copy of this repository to run them in."""

import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stress._run import Breach

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class Tested(NamedTuple):
    """A module, the tests that are about it, and those for what survives these."""

    module: str
    first: str
    then: str

    @property
    def path(self) -> Path:
        return Path("tsignals", f"{self.module}.py")


def all_tested() -> list[Tested]:
    packages = tomllib.loads((HERE / "tests.toml").read_text("utf-8"))
    return [
        Tested(f"{package}/{module}", first, table["then"])
        for package, table in packages.items()
        for module, first in table.items()
        if module != "then"
    ]


@contextlib.contextmanager
def in_copy(copy: Path) -> Iterator[None]:
    """Work in a copy of this repository: a mutant is a change on disk."""
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "site"))
    before = dict(os.environ)
    os.environ.update(
        PYTHONPATH=str(copy),
        PYTHONDONTWRITEBYTECODE="1",  # it would be found by time, and mutants come fast
        TSIGNALS_TEST_STRIDE="5",
        TSIGNALS_TEST_VOLUME="100",
    )
    try:
        with contextlib.chdir(copy):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def command_of(tests: str) -> str:
    options = "-q -x -p no:cacheprovider -o timeout=15"
    files = " ".join(f"tests/test_{name}.py" for name in tests.split())
    return f"{shlex.quote(sys.executable)} -m pytest {options} {files}"


@functools.cache
def seconds_of(tests: str) -> float:
    """How long these tests take; a breach unless they pass."""
    started = time.monotonic()
    done = run_tests(tests)
    if done.returncode != 0:
        raise Breach(f"without a mutant, some of these fail: {tests}:\n{done.stdout}")
    return time.monotonic() - started


def require_copy_is_tested(tested: Tested) -> None:
    """A breach unless the tests fail with a module that cannot be imported."""
    text = tested.path.read_text("utf-8")
    tested.path.write_text("raise RuntimeError\n", "utf-8")
    try:
        done = run_tests(tested.first)
    finally:
        tested.path.write_text(text, "utf-8")
    if done.returncode == 0:
        raise Breach(f"{tested.path} cannot be imported, and these pass: {tested.first}")


def run_tests(tests: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(shlex.split(command_of(tests)), capture_output=True, text=True)
