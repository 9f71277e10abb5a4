"""A trace as text."""

from collections.abc import Iterator

from tsignals._base.events import IN_EXECUTORS
from tsignals.tracing._records import Call, Send


def tree(roots: list[Send], over: bool) -> str:
    """One line for each send, each call, and each receiver that was not called."""
    lines = [line for send in roots for line in _of_send(send, over)]
    return "\n".join(lines) if lines else "nothing was sent"


def _of_send(send: Send, over: bool) -> Iterator[str]:
    # With a stack of its own: sends may nest as deep as threads do after each other.
    stack: list[tuple[str, str, Send | Call | str]] = [("", "", send)]
    while stack:
        first, rest, node = stack.pop()
        children: list[Send | Call | str] = []
        if isinstance(node, Send):
            yield first + _say_send(node)
            children += node.calls
            children += [
                f"{each.name}  connected and not called: {each.why}" for each in node.not_called
            ]
        elif isinstance(node, Call):
            yield first + _say_call(node, over)
            children += node.sends
        else:
            yield first + node
        pairs = [(rest + "├─ ", rest + "│  ", child) for child in children]
        if pairs:
            pairs[-1] = (rest + "└─ ", rest + "   ", children[-1])
        stack += reversed(pairs)


def _say_send(send: Send) -> str:
    sender = "" if send.sender is None else f" from {send.sender}"
    said = f"{send.name}{sender}, {send.mode}"
    if not send.heard:
        return f"{said}: nobody heard it"
    if send.mode in IN_EXECUTORS:
        return said
    return f"{said}  {duration(send.seconds)}"


def _say_call(call: Call, over: bool) -> str:
    parts = [call.name]
    send = call.send
    if call.started_ns is None and call.outcome is None:
        failed = [each for each in send.calls if each.outcome == "failed"]
        if failed and send.mode in ("send", "asend"):
            return f"{call.name}  not called: {failed[0].name} had failed"
        return f"{call.name}  not called{'' if over else ' yet'}"
    if call.queued_seconds:
        parts.append(f"waited {duration(call.queued_seconds)}")
    if call.ran_seconds is not None:
        parts.append(f"ran {duration(call.ran_seconds)}")
    elif call.outcome is None:
        parts.append("under way")
    if call.thread_name is not None and call.thread_id != send.thread_id:
        parts.append(f"in {call.thread_name}")
    if call.attempts > 1:
        parts.append(f"attempt {call.attempts}")
    if call.outcome not in (None, "completed"):
        parts.append(f"{call.outcome}{f': {call.error}' if call.error else ''}")
    elif len(parts) == 1:
        parts.append("completed" if call.thread_name else "completed elsewhere")
    return "  ".join([parts[0], ", ".join(parts[1:])])


def duration(seconds: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            value = seconds * factor
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds:.2f} s"
