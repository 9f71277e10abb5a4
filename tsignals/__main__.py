"""The command line: ``python -m tsignals demo``, ``python -m tsignals map``."""

import argparse
import os
import sys
import threading
from collections.abc import Sequence

from tsignals._demo import orders, threaded
from tsignals.inspecting import _command


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
    demo = commands.add_parser("demo", help=threaded.SUMMARY, description=threaded.__doc__)
    demo.add_argument("--app", action="store_true", help=orders.SUMMARY)
    demo.add_argument(
        "--requests", type=count, help="in each of the two runs (2000); orders of the shop (600)"
    )
    demo.add_argument("--threads", type=count, default=8, help="clients at a time (%(default)s)")
    demo.add_argument(
        "--workers", type=count, help="of the pool (twice the threads; 4 for the shop)"
    )
    demo.set_defaults(run=run_demo)
    drawn = commands.add_parser("map", help=_command.SUMMARY, description=_command.__doc__)
    _command.add_arguments(drawn)
    drawn.set_defaults(run=_command.run)
    chosen = parser.parse_args(arguments)
    status: int = chosen.run(chosen)
    return status


def run_demo(chosen: argparse.Namespace) -> int:
    """What ``demo`` was asked for."""
    if chosen.app:
        return orders.run(chosen.requests or 600, chosen.threads, chosen.workers or 4)
    workers = chosen.workers or 2 * chosen.threads
    return threaded.run(chosen.requests or 2000, chosen.threads, workers)


def program() -> int:
    """``main``, for a process of its own: one whose reader has gone ends without a word."""
    if sys.stdout is None:  # it was closed before
        sys.stdout = open(os.devnull, "w")
    try:
        try:
            status = main()
        finally:
            sys.stdout.flush()
        threads = threading.enumerate()
        if any(not each.daemon and each is not threading.main_thread() for each in threads):
            os._exit(status)  # a module has started them as it was imported, and they may never end
        return status
    except BrokenPipeError:
        # Python flushes once more at its end, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # what shells make of SIGPIPE
    except OSError as error:
        print(f"python -m tsignals: cannot write: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # as above
        return 2


if __name__ == "__main__":
    sys.exit(program())
