"""What the source says of a signal: the line of its definition, and the words that stand there."""

import ast
import linecache
from collections.abc import Iterator
from typing import NamedTuple


class Definition(NamedTuple):
    """One assignment in a module, or in a class there."""

    path: str
    first: int
    last: int
    doc: str


class Sources:
    """The assignments of source files, each read once."""

    def __init__(self) -> None:
        self._read: dict[str, list[Definition]] = {}

    def of(self, file: str) -> list[Definition]:
        found = self._read.get(file)
        if found is None:
            self._read[file] = found = _definitions(linecache.getlines(file))
        return found

    def named(self, file: str, path: str) -> Definition | None:
        """The last one that gives ``path`` its value."""
        return next((d for d in reversed(self.of(file)) if d.path == path), None)

    def at(self, file: str, line: int) -> Definition | None:
        """The one that stands on that line."""
        return next((d for d in self.of(file) if d.first <= line <= d.last), None)


def _definitions(lines: list[str]) -> list[Definition]:
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError, RecursionError):
        return []  # not Python, or not of this version
    return list(_in(tree.body, "", lines))


def _in(body: list[ast.stmt], prefix: str, lines: list[str]) -> Iterator[Definition]:
    for number, statement in enumerate(body):
        following = body[number + 1] if number + 1 < len(body) else None
        if isinstance(statement, ast.ClassDef):
            yield from _in(statement.body, f"{prefix}{statement.name}.", lines)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            last = statement.end_lineno or statement.lineno
            doc = _text(following) or _comment(lines, statement)
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    yield Definition(prefix + target.id, statement.lineno, last, doc)
        else:
            for name in ("body", "orelse", "handlers", "finalbody"):
                if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    yield from _in(getattr(statement, name, []), prefix, lines)


def _text(statement: ast.stmt | None) -> str:
    """What a string that stands alone says."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return first_line(value) if isinstance(value, str) else ""
    return ""


def _comment(lines: list[str], statement: ast.stmt) -> str:
    """What ``#:`` says behind the statement, or in the lines above it."""
    last = lines[(statement.end_lineno or statement.lineno) - 1].encode()  # columns are of bytes
    _, mark, said = last[statement.end_col_offset :].decode().partition("#:")
    if mark:
        return said.strip()
    said = ""
    for line in reversed(lines[: statement.lineno - 1]):
        if not line.lstrip().startswith("#:"):
            break
        said = line.lstrip()[2:].strip()
    return said


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
