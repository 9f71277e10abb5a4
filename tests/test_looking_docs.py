"""What the docs show of the shop, its map and one request of it, is what it says."""

import re
import sys
from pathlib import Path

import processes
import pytest
from test_docs_examples import BLOCK, ROOT, examples

pytestmark = pytest.mark.once

for module in ("sqlalchemy", "waitress"):
    pytest.importorskip(module)

PAGE = ROOT / "docs" / "howto" / "looking.md"


def shown(text: str) -> str:
    """Without lines, durations and numbers of threads, which may be others the next time."""
    text = re.sub(r"[\d.]+ (µs|ms|s)\b", "T", text)
    return re.sub(r"\bshop_\d", "shop", re.sub(r"\.py:\d+", ".py", text))


def consoles() -> list[str]:
    found = BLOCK.findall(PAGE.read_text("utf-8"))
    return [code for language, _, code, *_ in found if language == "console"]


def run(directory: Path, *arguments: str) -> str:
    done = processes.command(
        [sys.executable, *arguments], cwd=directory, env=processes.environment()
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_map_of_the_shop(tmp_path: Path) -> None:
    found = run(tmp_path, "-m", "tsignals", "map", "tsignals._demo.shop")
    assert shown(found) == shown(consoles()[0])


def test_trace_of_an_order(tmp_path: Path) -> None:
    [script] = [e.code for e in examples(PAGE) if e.words.get("file") == "one_order.py"]
    (tmp_path / "one_order.py").write_text(script, "utf-8")
    assert shown(run(tmp_path, "one_order.py")) == shown(consoles()[1])
    assert (tmp_path / "order.json").is_file()


OLD = """
from sqlalchemy.orm import Session, scoped_session

for each in Session, scoped_session:
    if hasattr(each, "get_one"):
        del each.get_one
"""


def test_order_in_the_shop_with_what_the_first_releases_of_sqlalchemy_2_have(
    tmp_path: Path,
) -> None:
    [script] = [e.code for e in examples(PAGE) if e.words.get("file") == "one_order.py"]
    (tmp_path / "one_order.py").write_text(OLD + script, "utf-8")
    assert shown(run(tmp_path, "one_order.py")) == shown(consoles()[1])


def test_pictures_are_small() -> None:
    pictures = re.findall(r"!\[.+\]\((.+\.png)\)", PAGE.read_text("utf-8"))
    assert len(pictures) == 3
    for each in pictures:
        path = PAGE.parent / each
        assert path.read_bytes()[:4] == b"\x89PNG"
        assert path.stat().st_size < 100_000
