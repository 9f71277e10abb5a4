"""``python -m stress COMMAND``: evidence by luck and volume. What uses chance prints its seed."""

import argparse
import importlib
import sys

COMMANDS = (
    *("histories", "models", "soak", "memory", "scaling", "sigint", "pool", "bursts"),
    *("bench", "keys", "web", "saves", "django", "django_saves", "looking", "mutation"),
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        importlib.import_module(f"stress.{command}").add_parser(subparsers)
    chosen = parser.parse_args(arguments)
    return int(chosen.run(chosen) or 0)


if __name__ == "__main__":
    sys.exit(main())
