"""A test that fails says why, also where that happened in another thread or process."""

import sys
from pathlib import Path

import processes
import pytest

SHARED = """
import os, subprocess, sys, threading
import causes, processes
from helpers import Running, in_new_process, together, wait_until

def breaks():
    raise LookupError("the " + "cause")
"""

FAILING = {
    "a script": """
def test():
    done = processes.run("raise LookupError('the ' + 'cause')")
    assert done.returncode == 0
""",
    "a thread of a script": """
def test():
    done = processes.run(
        "def breaks(): raise LookupError('the ' + 'cause')\\n"
        "threading.Thread(target=breaks).start()"
    )
    assert done.stdout == "all is well"
""",
    "a child of a script": """
def test():
    done = processes.run(
        "if not os.fork(): raise LookupError('the ' + 'cause')\\n"
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    assert done.returncode == 0
""",
    "a function in a new process": """
def test():
    in_new_process(breaks)
""",
    "a forked child": """
def test():
    assert processes.forked(breaks) == 0
""",
    "a process that hangs": """
def test(monkeypatch):
    class Popen(subprocess.Popen):
        def communicate(self, *arguments, **named):
            wait_until(lambda: os.path.exists("said"))  # its time begins here
            return super().communicate(*arguments, **named)
    monkeypatch.setattr(subprocess, "Popen", Popen)
    code = (
        "import time; print('the ' + 'cause', flush=True); open('said', 'w').close();"
        "time.sleep(600)"
    )
    processes.command([sys.executable, "-c", code], timeout=0.1)
""",
    "a thread": """
def test():
    running = Running(breaks)
    while not running.done: pass
    assert False, "something else"
""",
    "one of several threads": """
def test():
    ended = threading.Event()
    def waits():
        wait_until(causes.all_told)
        assert ended.is_set(), "the other never came"
    def ends():
        breaks()
        ended.set()
    together(waits, ends)
""",
    "a thread of nobody's": """
def test():
    thread = threading.Thread(target=breaks)
    thread.start()
    thread.join()
""",
}


def outcome(directory: Path, test: str) -> str:
    """What pytest prints of a test that stands with our ``conftest``."""
    (directory / "test_it.py").write_text(SHARED + test)
    project = Path(processes.ROOT) / "pyproject.toml"
    arguments = ["-q", "-p", "conftest", "-p", "no:cacheprovider", "-c", str(project)]
    done = processes.command(
        [sys.executable, "-m", "pytest", *arguments, "--rootdir", str(directory), "test_it.py"],
        cwd=directory,
        env=processes.environment(),
    )
    return done.stdout


@pytest.mark.parametrize("where", FAILING)
def test_failure_says_what_happened_elsewhere(where: str, tmp_path: Path) -> None:
    if "child" in where and not hasattr(processes.os, "fork"):
        pytest.skip("needs fork")
    said = outcome(tmp_path, FAILING[where])
    assert "1 failed" in said
    shown = [line for line in said.splitlines() if line.startswith("E ")]
    assert any("the cause" in line for line in shown), said


def test_what_a_test_knows_of_is_not_said_twice(tmp_path: Path) -> None:
    said = outcome(
        tmp_path,
        """
def test():
    try:
        Running(breaks).result()
    except LookupError:
        pass
    assert False, "something else"
""",
    )
    assert "something else" in said
    assert "a thread of the test raised" not in said
