"""The map as one page that needs nothing else: ``page.html``, with the data in it."""

import json
from importlib import resources

from tsignals.inspecting._entries import SignalEntry
from tsignals.inspecting._text import summary


def page(signals: list[SignalEntry]) -> str:
    """The page. All that comes from the program is in one block of data."""
    text = resources.files("tsignals.inspecting").joinpath("page.html").read_text(encoding="utf-8")
    data = {"signals": signals, "summary": summary(signals)}
    # As JSON, and so that nothing in it can end the element that it stands in.
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return text.replace("@DATA@", written, 1)
