"""The command line: ``python -m tsignals demo``."""

import argparse
import os
import sys
from collections.abc import Sequence

from tsignals import _demo


def count(text: str) -> int:
    """An argument that says how many: at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tsignals")
    commands = parser.add_subparsers(required=True, metavar="command")
    demo = commands.add_parser("demo", help=_demo.SUMMARY, description=_demo.__doc__)
    demo.add_argument(
        "--requests", type=count, default=2000, help="in each of the two runs (%(default)s)"
    )
    demo.add_argument("--threads", type=count, default=8, help="clients at a time (%(default)s)")
    demo.add_argument("--workers", type=count, help="of the pool (twice the threads)")
    chosen = parser.parse_args(arguments)
    return _demo.run(chosen.requests, chosen.threads, chosen.workers or 2 * chosen.threads)


def program() -> int:
    """``main``, for a process of its own: one whose reader has gone ends without a word."""
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # what shells make of SIGPIPE


if __name__ == "__main__":
    sys.exit(program())
