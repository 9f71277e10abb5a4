"""Every example in README and docs runs and prints what it says; the reference is complete.

In a page, the ``python`` blocks run one after the other as one module; a ``text`` block directly
after one is what it prints. Words after ``python`` change that: ``needs=dask`` skips the block
where that package is missing; ``file=orders.py`` writes the block to a file; ``script=orders.py``
also runs it, as a program of its own, and ``script=test_orders.py`` with pytest. ``recipe=name``
is for ``test_docs_recipes.py``, which runs the block with receivers that hang.
"""

import contextlib
import doctest
import importlib
import importlib.util
import inspect
import io
import logging
import os
import pkgutil
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import processes
import pytest

import tsignals

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+) *([^\n]*)\n(.*?)^```$(?=(\n\n```text\n(.*?)^```$)?)", re.M | re.S)

PUBLIC = {
    "Signal": "connect disconnect has_listeners receivers send send_robust send_async asend "
    "asend_robust",
    "Connection": "receiver sender dispatch_uid priority connected disconnect",
    "Outcomes": "errors raise_errors",
    "Deliveries": "futures wait results outcomes as_completed cancel",
    "WorkerPool": "submit map shutdown drain stats unfinished all",
}


@dataclass
class Example:
    code: str
    line: int
    printed: str | None
    words: dict[str, str] = field(default_factory=dict)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples(page: Path) -> Iterator[Example]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        language, words, code, _, printed = match.groups()
        if language == "python":
            line = text.count("\n", 0, match.start(3))
            yield Example(code, line, printed, dict(w.split("=") for w in words.split()))


@pytest.mark.foreign_threads("Trio thread")
@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_of_a_page_run_and_print_what_it_says(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.NOTSET, "tsignals")  # and back at the end, whatever the page sets
    module = types.ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", module)
    monkeypatch.syspath_prepend(tmp_path)
    missing = set()
    for example in examples(page):
        words = example.words
        if "needs" in words and importlib.util.find_spec(words["needs"]) is None:
            missing.add(words["needs"])
            continue
        where = f"{page.relative_to(ROOT)}, line {example.line}"
        if name := words.get("file", words.get("script", "")):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(example.code, encoding="utf-8")
            monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
        if "script" in words:
            path = str(ROOT)
            command = [sys.executable, name]
            if name.startswith("test_"):
                path = processes.with_plugin(tmp_path)
                # A page says what it needs, and this it does not.
                command[1:1] = ["-m", "pytest", "-p", "no:django", "-p", "no:run-parallel"]
            env = {**os.environ, "PYTHONPATH": path}
            done = processes.command(command, cwd=tmp_path, env=env)
            assert done.returncode == 0, f"{where}:\n{done.stdout}{done.stderr}"
            printed = done.stdout
        elif "file" not in words:
            out = io.StringIO()
            # Empty lines in front: tracebacks then give the line of the page.
            code = compile("\n" * example.line + example.code, str(page), "exec")
            with contextlib.redirect_stdout(out):
                exec(code, module.__dict__)
            printed = out.getvalue()
        if example.printed is not None:
            assert printed == example.printed, where
    # Later tests send this one too, and free-threaded builds may keep a page's functions alive.
    for connection in tsignals.receiver_failed.receivers:
        connection.disconnect()
    if missing:
        pytest.skip(f"ran, but for what needs {', '.join(sorted(missing))}")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_names_the_files_that_others_of_its_examples_import(page: Path) -> None:
    """For a reader: what stands behind ``python`` is not shown."""
    text, start = page.read_text("utf-8"), 0
    for match in BLOCK.finditer(text):
        above, start = text[start : match.start()], match.end()
        if file := re.search(r"\bfile=(\S+)", match[2]):
            assert f"{file[1]}`" in above, f"say that this is `{file[1]}`"


def test_examples_in_docstrings_hold() -> None:
    modules = pkgutil.iter_modules(tsignals.__path__, "tsignals.")
    results = [
        doctest.testmod(importlib.import_module(name))
        for name in ("tsignals", *(m.name for m in modules if m.name != "tsignals.__main__"))
    ]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0


def test_readme_has_three_commands_that_start_from_a_clone() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [code for language, _, code, *_ in BLOCK.findall(readme) if language == "sh"]
    demo, shop, test = commands
    assert all(len(command.splitlines()) == 1 for command in commands)
    assert demo.endswith("-m tsignals demo\n")
    assert shop.endswith("-m tsignals demo --app\n")
    assert test.endswith("-m pytest\n")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    for link in links:
        name, _, section = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not section or section in sections(target), link


def sections(page: Path) -> set[str]:
    """What the headings of a page are called in links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_reference_names_every_public_name_method_and_argument() -> None:
    """Methods and their arguments as their signatures have them; helpers between rooms have none
    of the words that users write."""
    pages = [page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")]
    written = set(re.findall(r"\w+", "".join(pages)))
    names = set(tsignals.__all__) | set(tsignals.PoolStats._fields)
    for of, methods in PUBLIC.items():
        names |= set(methods.split())
        for method in methods.split():
            function = getattr(getattr(tsignals, of), method)
            if callable(function):
                names |= set(inspect.signature(function).parameters)
    for function in (tsignals.Signal, tsignals.WorkerPool, tsignals.background):
        names |= set(inspect.signature(function).parameters)
    assert names - written - {"self", "fn", "named"} == set()


QUESTION = re.compile(r"^\*\*(.+?)\*\*$(.*?)(?=^\*\*|^## |\Z)", re.M | re.S)


def answers(page: str) -> list[tuple[str, str]]:
    """The questions of a page and their answers."""
    return QUESTION.findall((ROOT / "docs" / "explanation" / page).read_text("utf-8"))


def test_every_test_that_an_answer_names_stands_in_a_file_that_it_names() -> None:
    found = answers("threads.md")
    assert len(found) > 30
    named = 0
    for question, answer in found:
        files = [ROOT / name for name in re.findall(r"`(tests/\w+\.py)`", answer)]
        tests = re.findall(r"`(test_\w+)`", answer)
        there = "".join(file.read_text("utf-8") for file in files)
        missing = [name for name in tests if f"def {name}(" not in there]
        assert not missing, f"{question} names {missing}, which do not stand in {files}"
        named += len(tests)
    assert named > 80


def test_every_command_that_an_answer_names_exists() -> None:
    commands = {
        name
        for _, answer in answers("threads.md")
        for name in re.findall(r"-m stress (\w+)", answer)
    }
    assert {"histories", "models"} <= commands
    for name in commands:
        assert importlib.util.find_spec(f"stress.{name}") is not None, name
