"""What went wrong elsewhere while a test ran: in its threads, and in other processes.

Whoever sees such a thing says it here; ``conftest`` has the failure of the test tell of it. Only
texts are kept: a test may look whether anything else is.
"""

import traceback

_told: dict[object, str] = {}


def tell(text: str) -> object:
    """Have a failure of this test say so; what is returned takes it back."""
    cause = object()
    _told[cause] = text
    return cause


def tell_error(where: str, error: BaseException) -> object:
    try:
        lines = traceback.format_exception(error)
    except Exception:  # tests raise what will not be shown
        lines = [object.__repr__(error)]
    return tell(f"{where}:\n{''.join(lines)}".rstrip())


def take_back(cause: object) -> None:
    """The test knows of it itself."""
    _told.pop(cause, None)


def forget() -> None:
    """Another test begins."""
    _told.clear()


def all_told() -> list[str]:
    return list(_told.values())
