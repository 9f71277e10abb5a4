"""``python -m stress.bench``: the same as ``python -m stress bench``."""

import argparse
import sys

from stress.bench.command import add_arguments, run

parser = argparse.ArgumentParser(prog="python -m stress.bench")
add_arguments(parser)
sys.exit(run(parser.parse_args()))
