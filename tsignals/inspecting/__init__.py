"""Which signals there are, and who is connected to them: ``connections``.

``python -m tsignals map`` shows the same as a tree, as a page, and in other formats.
"""

from types import ModuleType

from tsignals.inspecting._chosen import Chosen
from tsignals.inspecting._entries import ReceiverEntry as ReceiverEntry
from tsignals.inspecting._entries import SignalEntry as SignalEntry
from tsignals.inspecting._living import Living

__all__ = ["ReceiverEntry", "SignalEntry", "connections"]

ReceiverEntry.__module__ = SignalEntry.__module__ = __name__


def connections(*what: str | ModuleType | object, unheard: bool = False) -> list[SignalEntry]:
    """Signals, each with its receivers in call order, as plain dictionaries.

    what: a module, or ``"module"`` to import it: its signals and those of its submodules, as far as
        these are loaded, and after them all signals of the process that somebody hears.
        A signal, or ``"module:name"``: that one; where ``name`` is a class or a namespace, the
        signals in there. Nothing: all signals of the process.
    unheard: only those that nobody hears.

    Signals of Django and blinker are shown as ours are. Nothing of a receiver's is called. Values
    are ``str``, ``int``, ``bool``, ``None``, and lists of these, so JSON can hold them.

    Raises what the import of a module raises; ``AttributeError`` where a module has no such name,
    ``ValueError`` where that is no signal and holds none, ``TypeError`` for what is none of these.

    Thread safety: from any thread. Each signal is shown as it is at one moment of this call.
    """
    chosen = Chosen.of(*what)
    entries = Living().entries(chosen)
    return [entry for entry in entries if not (unheard and entry["receivers"])]
