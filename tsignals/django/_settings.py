"""The setting ``TSIGNALS``, and the default pool that is made from it.

Threads
    Read by ``ready()``, on the one thread that sets Django up, and by the checks. ``_made`` is
    rebound by ``ready()`` only.
"""

import contextlib
import difflib
import logging
import os
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from tsignals import WorkerPool, set_default_executor
from tsignals.django._connections import connections

ARGUMENTS = {
    "MAX_WORKERS": "max_workers",
    "MAX_PENDING": "max_pending",
    "OVERFLOW": "overflow",
    "BLOCK_TIMEOUT": "block_timeout",
}
"""The keys of ``TSIGNALS``, and the arguments of ``WorkerPool`` that they are."""

Arguments = dict[str, Any]
"""Arguments of ``WorkerPool``."""

_made: list[Arguments] = []
"""What the default pool was last made from; its only entry."""


def given() -> Mapping[str, object]:
    """The setting; empty where it is not there or no dictionary."""
    found = getattr(settings, "TSIGNALS", None)
    return found if isinstance(found, Mapping) else {}


def wrong() -> dict[str, str]:
    """What is wrong, by key; under the empty key what is wrong with the whole."""
    found = getattr(settings, "TSIGNALS", None)
    if found is not None and not isinstance(found, Mapping):
        return {"": f"TSIGNALS must be a dictionary, not {type(found).__name__!r}."}
    problems = {}
    for key, value in given().items():
        if key not in ARGUMENTS:
            like = difflib.get_close_matches(str(key).upper(), ARGUMENTS, 1)
            meant = f"; did you mean {like[0]!r}?" if like else f" (of {', '.join(ARGUMENTS)})."
            problems[key] = f"TSIGNALS has no key {key!r}{meant}"
        elif problem := refused({ARGUMENTS[key]: value}):
            problems[key] = f"TSIGNALS[{key!r}] is {value!r}: {problem}."
    return problems


def refused(arguments: Arguments) -> str | None:
    """Why no pool can be made with these, or ``None``."""
    try:
        WorkerPool(**arguments).shutdown(wait=False)  # it has no thread yet
    except (TypeError, ValueError) as error:
        return str(error)
    except RuntimeError:  # it is not these that are wrong
        return None
    return None


def arguments() -> Arguments:
    """The arguments of the pool: what is wrong is left out."""
    problems = wrong()
    return {ARGUMENTS[key]: value for key, value in given().items() if key not in problems}


def max_workers() -> int:
    """How many workers the default pool may have."""
    number = arguments().get("max_workers")
    return min(32, (os.cpu_count() or 1) + 4) if number is None else int(number)


def make_default_pool() -> None:
    """Make the pool of the settings the default one, unless it was made from the same before.

    Django calls ``ready()`` again whenever a test changes ``INSTALLED_APPS``: by then the program
    may have another default pool, which it keeps.
    """
    wanted = arguments()
    for text in wrong().values():  # servers run no checks
        logging.getLogger("tsignals").error("%s The default pool is made without it.", text)
    # RuntimeError: a subinterpreter, as mod_wsgi makes them, where there can be no pool. Sends
    # work there, and those in the background say what is wrong.
    with contextlib.suppress(RuntimeError):
        pool = WorkerPool(
            **wanted, around=connections, idle=connections.idle, initializer=connections.worker
        )
        former = set_default_executor(pool)
        if former is not None and _made == [wanted]:
            set_default_executor(former)  # the new one has started no thread
    _made[:] = [wanted]
