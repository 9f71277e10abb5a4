"""Which mutants are tried: some places of a module, chosen by a seed, and one change of each.

A place that an operator can change in ten ways counts as one: else ``|`` would be most of the
sample. Not tried is what only a type checker reads: annotations, protocols, ``TYPE_CHECKING``.
"""

import ast
import functools
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray.work_item import WorkerOutcome, WorkResult

FOR_TYPES = {"final", "overload", "override", "runtime_checkable"}
"""Decorators that do nothing when the program runs."""


class Part(NamedTuple):
    """Of a source file: from line and column of its first character to those behind its last."""

    start: tuple[int, int]
    end: tuple[int, int]


def choose(database: Any, share: float, least: int, seed: int) -> int:
    """Leave a share of the places in a session, at least so many; return how many these are."""
    places = defaultdict(list)
    for item in sorted(database.pending_work_items, key=place_and_change):
        if not is_for_types(item.mutations[0]):
            places[place_and_change(item)[:3]].append(item)
    chance = random.Random(seed)
    number = min(len(places), max(least, round(share * len(places))))
    chosen = {chance.choice(places[place]).job_id for place in chance.sample([*places], number)}
    left_out = [item.job_id for item in database.pending_work_items if item.job_id not in chosen]
    database.set_multiple_results(left_out, WorkResult(WorkerOutcome.SKIPPED))
    return number


def place_and_change(item: Any) -> tuple[Any, ...]:
    [change] = item.mutations
    place = (str(change.module_path), change.start_pos, change.end_pos)
    return *place, change.operator_name, change.occurrence


def is_for_types(change: Any) -> bool:
    at = tuple(change.start_pos)
    return any(part.start <= at < part.end for part in parts_for_types(change.module_path))


@functools.cache
def parts_for_types(path: Path) -> list[Part]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    return [part for node in nodes for part in of_node(node)]


def of_node(node: ast.AST) -> Iterator[Part]:
    """What of it, without what is below, only a type checker reads."""
    match node:
        case ast.arg(annotation=ast.expr() as annotation) | ast.AnnAssign(annotation=annotation):
            yield whole(annotation)
        case ast.If(test=ast.Name("TYPE_CHECKING")):
            yield whole(node)
        case ast.ClassDef() if any("Protocol" in ast.unparse(base) for base in node.bases):
            yield whole(node)
        case ast.FunctionDef() | ast.AsyncFunctionDef() if node.returns is not None:
            yield whole(node.returns)
    for decorator in getattr(node, "decorator_list", []):
        if ast.unparse(decorator) in FOR_TYPES:
            yield Part((decorator.lineno, 0), (decorator.lineno + 1, 0))


def whole(node: Any) -> Part:
    return Part((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
