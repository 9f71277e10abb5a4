"""How fast, how small, how scalable: measured beside the peers, in one process.

    python -m stress bench             everything, some minutes
    python -m stress bench --quick     the same in less than a minute, rougher
    python -m stress bench --rows weak only the rows (and groups) with "weak" in their name

A *group* puts candidates that do the same job side by side (`sends.py`, `async_sends.py`,
`latency.py`, `memory.py`, `threads.py`). In every round each candidate is measured once, so that
whatever else the machine does falls on all of them. `bars.py` says which ratios of these figures
we hold ourselves to.
"""

from stress.bench.command import add_parser

__all__ = ["add_parser"]
