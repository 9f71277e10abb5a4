"""A progress bar that keeps still while something is timed."""

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, TypeVar

Step = TypeVar("Step")


def optional(module: str) -> Any:
    """The module, or ``None`` where it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        return None


def progress(what: str, steps: Iterable[Step], total: int) -> Iterator[Step]:
    """Go through the steps with a bar, where there is a terminal and tqdm; else say what begins."""
    tqdm = optional("tqdm")
    if tqdm is None or not sys.stderr.isatty():
        print(f"{what}: {total} steps", file=sys.stderr, flush=True)
        yield from steps
        return
    tqdm.tqdm.monitor_interval = 0  # its thread would wake up in the middle of a sample
    yield from tqdm.tqdm(steps, desc=f"{what:<28}", total=total, unit="sample")
