"""The command: choose modules, try mutants of each, tell which survive."""

import argparse
import importlib.util
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stress._run import Breach, python, write_report
from stress.mutation.tested import all_tested, in_copy

if TYPE_CHECKING:
    from stress.mutation.trial import Found


def add_parser(subparsers: Any) -> None:
    """Register ``mutation`` with ``python -m stress``."""
    parser = subparsers.add_parser("mutation", help="do the tests notice when a line is wrong?")
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", default="", metavar="NAME", help="modules whose name contains it")
    parser.add_argument("--seed", type=int, default=1, help="which mutants (default: %(default)s)")
    parser.add_argument(
        "--share", type=float, default=0.1, help="of a module's places (default: %(default)s)"
    )
    parser.add_argument(
        "--least", type=int, default=6, help="mutants of each module (default: %(default)s)"
    )
    parser.add_argument(
        "--bar", type=float, default=0.85, help="share to be killed (default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="give survivors of the first tests no more tests"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all mutants here")


def run(arguments: argparse.Namespace) -> int:
    """Print who survives; 1 if these are too many, 2 without cosmic-ray."""
    if importlib.util.find_spec("cosmic_ray") is None:
        print("cosmic-ray is not installed")
        return 2
    from stress.mutation.trial import try_some

    print(f"mutation: {python()}, seed {arguments.seed}", flush=True)
    chosen = [each for each in all_tested() if arguments.only in each.module]
    found: list[Found] = []
    try:
        with tempfile.TemporaryDirectory() as directory, in_copy(Path(directory, "copy")):
            for tested in chosen:
                if arguments.quick:
                    tested = tested._replace(then="")
                found += try_some(tested, arguments.share, arguments.least, arguments.seed)
                report = {"seed": arguments.seed, "mutants": [each._asdict() for each in found]}
                write_report(arguments.json, report)
    except Breach as breach:
        print(f"BREACH: {breach}")
        return 1
    return tell(found, arguments.bar)


def tell(found: "Sequence[Found]", bar: float) -> int:
    for each in found:
        if not each.killed:
            print(f"\nsurvived: {each.module}.py:{each.line} {each.operator}\n{each.diff}")
    packages = defaultdict(list)
    for each in found:
        packages[each.module.partition("/")[0]].append(each.killed)
    for package, killed in packages.items():
        print(f"{package}: {of(killed)}")
    killed = [each.killed for each in found]
    print(f"all: {of(killed)}")
    return int(sum(killed) < bar * len(killed))


def of(killed: Iterable[bool]) -> str:
    known = list(killed)
    return f"{sum(known)} of {len(known)} killed"
