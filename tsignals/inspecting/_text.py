"""The map as text: a tree, with colours where there are any, and the two languages of graphs."""

import importlib.util
from collections.abc import Iterable, Iterator

from tsignals.inspecting._entries import ReceiverEntry, SignalEntry

Piece = tuple[str, str]
"""Some text, and its style."""

Line = list[Piece]

STRANGE = "bold yellow"


def title(signal: SignalEntry) -> str:
    args = signal["providing_args"]
    return f"{signal['name']}({', '.join(args)})" if args else signal["name"]


def notes(receiver: ReceiverEntry) -> Iterator[str]:
    """What was agreed on at ``connect``, in words, where it is not the usual."""
    if receiver["sender"] is not None:
        yield f"from {receiver['sender']}"
    if receiver["runs"] is not None:
        yield receiver["runs"]
    for word in ("async", "ordered", "tracked", "once"):
        value = receiver[word]
        if value:
            yield word if value is True else f"{word} {value}"
    if receiver["retry"] is not None:
        yield receiver["retry"]
    if receiver["priority"]:
        yield f"priority {receiver['priority']}"
    if receiver["uid"] is not None:
        yield f"uid {receiver['uid']}"
    if not receiver["weak"]:
        yield "strong"


def summary(signals: list[SignalEntry]) -> str:
    """How many there are of each, in a line."""
    receivers = sum(len(each["receivers"]) for each in signals)
    unheard = sum(not each["receivers"] for each in signals)
    said = f"{_count(len(signals), 'signal')}, {_count(receivers, 'connection')}"
    return f"{said}; nobody hears {unheard} of them" if unheard else said


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def lines(signals: list[SignalEntry]) -> Iterator[Line]:
    """The tree."""
    for signal in signals:
        own = "" if signal["library"] == "tsignals" else f"  ({signal['library']})"
        yield [(title(signal), "bold"), (f"  {signal['defined'] or ''}{own}".rstrip(), "dim")]
        if signal["doc"]:
            yield [("│  " if signal["receivers"] else "   ", "dim"), (signal["doc"], "italic")]
        if not signal["receivers"]:
            yield [("└─ ", "dim"), ("nobody hears it", STRANGE)]
        for number, receiver in enumerate(signal["receivers"], 1):
            last = number == len(signal["receivers"])
            said = ", ".join(notes(receiver))
            yield [
                ("└─ " if last else "├─ ", "dim"),
                (receiver["name"], "cyan"),
                (f"  {receiver['where'] or ''}".rstrip(), "dim"),
                (f"  {said}" if said else "", "green"),
            ]
        yield []
    yield [(summary(signals), "")]


def tree(signals: list[SignalEntry], end: str = "\n") -> str:
    return "".join("".join(text for text, _ in line) + end for line in lines(signals))


def print_tree(signals: list[SignalEntry]) -> bool:
    """Print it with colours; False where ``rich`` is not installed."""
    if importlib.util.find_spec("rich") is None:
        return False
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines(signals):
        console.print(Text.assemble(*line), soft_wrap=True)
    return True


# -- Graphs: each receiver once, with an edge for each connection --


def _nodes(signals: Iterable[SignalEntry]) -> dict[tuple[str, str | None], str]:
    found: dict[tuple[str, str | None], str] = {}
    for signal in signals:
        for each in signal["receivers"]:
            found.setdefault((each["name"], each["where"]), f"r{len(found)}")
    return found


def _edges(signals: list[SignalEntry]) -> Iterator[tuple[str, str, str]]:
    nodes = _nodes(signals)
    for number, signal in enumerate(signals):
        several = len(signal["receivers"]) > 1
        for place, each in enumerate(signal["receivers"], 1):
            said = ", ".join(notes(each))
            label = ": ".join(filter(None, [str(place) if several else "", said]))
            yield f"s{number}", nodes[each["name"], each["where"]], label


def mermaid(signals: list[SignalEntry]) -> str:
    """A flowchart for Mermaid."""

    def quote(*texts: str | None) -> str:
        return '"' + "<br/>".join(_entities(text) for text in texts if text) + '"'

    out = ["flowchart LR"]
    for number, signal in enumerate(signals):
        mark = "" if signal["receivers"] else ":::unheard"
        out.append(f"  s{number}([{quote(title(signal), signal['defined'])}]){mark}")
    for (name, where), node in _nodes(signals).items():
        out.append(f"  {node}[{quote(name, where)}]")
    for signal_node, node, label in _edges(signals):
        out.append(f"  {signal_node} -->{f'|{quote(label)}|' if label else ''} {node}")
    out.append("  classDef unheard stroke-dasharray: 4 3")
    return "\n".join(out) + "\n"


def _entities(text: str) -> str:
    """What would end a quoted text, or be markup in it, by its number."""
    return "".join(f"#{ord(c)};" if c in '#"<>&`' else c for c in text)


def dot(signals: list[SignalEntry]) -> str:
    """A digraph for Graphviz."""

    def quote(*texts: str | None) -> str:
        shown = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts if text)
        return '"' + "\\n".join(shown) + '"'

    out = ["digraph signals {", "  rankdir=LR;", "  node [shape=box];"]
    for number, signal in enumerate(signals):
        style = "" if signal["receivers"] else ", style=dashed"
        label = quote(title(signal), signal["defined"])
        out.append(f"  s{number} [label={label}, shape=ellipse{style}];")
    for (name, where), node in _nodes(signals).items():
        out.append(f"  {node} [label={quote(name, where)}];")
    for signal_node, node, label in _edges(signals):
        out.append(f"  {signal_node} -> {node} [label={quote(label)}];")
    return "\n".join([*out, "}"]) + "\n"
