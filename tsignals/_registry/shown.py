"""What tools are shown of signals and connections, beyond what their users see."""

from typing import cast

from tsignals._registry.connection import Connection
from tsignals._registry.everywhere import registries
from tsignals._registry.naming import HasAddress
from tsignals._registry.naming import find_all as find_all
from tsignals._registry.naming import own_name as own_name
from tsignals._registry.receiver import wrapper_of as wrapper_of
from tsignals._registry.registry import Registry


def signals() -> list[object]:
    """All of ours that live, in the order in which they were made."""
    found = [cast(Registry, each).signal() for each in registries.living()]
    return [signal for signal in found if signal is not None]


def made_at(signal: object) -> tuple[str, str, int]:
    """The module, the file and the line in which a signal of ours was made."""
    address = cast(HasAddress, signal)._address
    return address.module, address.where, address.line


def is_async(connection: Connection) -> bool:
    """Whether its function is ``async def``, also behind ``background``."""
    return connection._options.on_loop
