"""What ``python -m tsignals map`` and ``tsignals.inspecting.connections`` show of a program."""

import contextlib
import functools
import gc
import importlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
from helpers import TIMEOUT, Ear, Thing, ignore

from tsignals import Retry, Signal, background, receiver
from tsignals.__main__ import main
from tsignals.inspecting import connections

SIGNALS = '''
from tsignals import Signal

order_paid = Signal(["order", "total"])
"""Sent when the money is there.

More is said elsewhere.
"""


class Shop:
    #: The shop has closed.
    closed = Signal()


unheard = Signal(
    name="nobody.listens",
)
'''
RECEIVERS = """
from functools import partial

from mapped.signals import Shop, order_paid

from tsignals import background, receiver

print("imported")


@receiver(order_paid, priority=5, dispatch_uid="mails")
def mail(**named): ...


@receiver([order_paid, Shop.closed], sender=Shop, tracked=True)
async def sync_up(**named): ...


@receiver(Shop.closed)
@background(ordered=True)
def report(**named): ...


class Ledger:
    def write(self, **named): ...


ledger = Ledger()
order_paid.connect(ledger.write, "a string", weak=False)
written = partial(mail, loud=True)
order_paid.connect(written)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package ``mapped``, which can be imported from the current directory."""
    package = tmp_path / "mapped"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "signals.py").write_text(SIGNALS)
    (package / "receivers.py").write_text(RECEIVERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mapped"]:
        del sys.modules[name]
    gc.collect()  # or later tests still find its signals


def mapped(*arguments: str, status: int = 0) -> str:
    """What the command prints, in a process of its own: so of this program alone."""
    done = processes.command(
        [sys.executable, "-m", "tsignals", "map", *arguments], env=processes.environment()
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def test_tree_shows_signals_and_their_receivers_in_call_order(program: Path) -> None:
    assert mapped("mapped.receivers", "mapped.signals") == (
        """\
mapped.signals.order_paid(order, total)  mapped/signals.py:4
│  Sent when the money is there.
├─ mapped.receivers.mail  mapped/receivers.py:11  priority 5, uid mails
├─ mapped.receivers.sync_up  mapped/receivers.py:15  from mapped.signals.Shop, async, tracked
├─ mapped.receivers.Ledger.write  mapped/receivers.py:25  from 'a string', strong
└─ mapped.receivers.mail  mapped/receivers.py:11

mapped.signals.Shop.closed  mapped/signals.py:13
│  The shop has closed.
├─ mapped.receivers.sync_up  mapped/receivers.py:15  from mapped.signals.Shop, async, tracked
└─ mapped.receivers.report  mapped/receivers.py:19  background, ordered

nobody.listens  mapped/signals.py:16
└─ nobody hears it

3 signals, 6 connections; nobody hears 1 of them
"""
    )


def test_what_modules_have_others_print_is_no_map(program: Path) -> None:
    """Programs that they start, and what writes to the descriptor, or to the first stdout."""
    (program / "mapped" / "loud.py").write_text(
        "import os, subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'print(1)'])\n"
        "os.write(1, b'2\\n')\n"
        "print(3, file=sys.__stdout__)\n"
    )
    command = [sys.executable, "-m", "tsignals", "map", "mapped.loud", "mapped.signals"]
    done = processes.command([*command, "--format", "json"], env=processes.environment())
    assert done.returncode == 0
    assert done.stderr.split() == ["1", "2", "3"]
    assert json.loads(done.stdout)


def test_map_is_drawn_where_there_are_no_errors_to_write_to(program: Path) -> None:
    command = [sys.executable, "-m", "tsignals", "map", "mapped.signals", "--format", "json"]
    closing = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    done = processes.command(closing, env=processes.environment())
    assert done.returncode == 0
    assert json.loads(done.stdout)


def test_json_is_what_connections_gives(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "mapped.signals:order_paid", "mapped.receivers", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert err == "imported\n"  # what modules print does not mix with the map
    found = json.loads(out)
    assert found == connections("mapped.signals:order_paid", "mapped.receivers")
    import mapped.signals as signals

    [paid] = connections(signals.order_paid)
    assert paid == found[0]
    assert {key: paid[key] for key in paid if key != "receivers"} == {
        "name": "mapped.signals.order_paid",
        "library": "tsignals",
        "attribute": "mapped.signals.order_paid",
        "defined": "mapped/signals.py:4",
        "providing_args": ["order", "total"],
        "doc": "Sent when the money is there.",
    }
    assert paid["receivers"][1] == {
        "name": "mapped.receivers.sync_up",
        "where": "mapped/receivers.py:15",
        "sender": "mapped.signals.Shop",
        "weak": True,
        "priority": 0,
        "async": True,
        "tracked": True,
        "ordered": False,
        "once": False,
        "retry": None,
        "uid": None,
        "runs": None,
    }


def names(found: Any) -> list[str]:
    return [each["name"] for each in found]


def test_module_shows_its_own_signals_and_all_that_are_heard(program: Path) -> None:
    import mapped.receivers
    import mapped.signals as signals

    elsewhere, nowhere = Signal(name="test.elsewhere"), Signal(name="test.nowhere")
    elsewhere.connect(mapped.receivers.mail)
    found = names(connections("mapped"))  # signals of submodules are its own
    assert found[:3] == [
        "mapped.signals.order_paid",
        "mapped.signals.Shop.closed",
        "nobody.listens",
    ]
    assert "test.elsewhere" in found
    assert "test.nowhere" not in found
    assert {"test.elsewhere", "test.nowhere"} <= set(names(connections()))
    assert names(connections("mapped.signals:Shop")) == ["mapped.signals.Shop.closed"]
    assert names(connections(signals.unheard, nowhere)) == ["nobody.listens", "test.nowhere"]
    assert names(connections(signals.unheard, elsewhere, unheard=True)) == ["nobody.listens"]
    assert "test.elsewhere" in names(connections(mapped))


def test_signals_in_a_namespace_of_the_module_are_its_own(program: Path) -> None:
    import mapped.signals

    class Namespace:
        def __init__(self) -> None:
            self.all = {"made": Signal(name="made by a namespace")}

    mapped.signals.events = Namespace()  # type: ignore[attr-defined]
    mapped.signals.one_more = {"x": Signal(name="in a dictionary")}  # type: ignore[attr-defined]
    found = names(connections("mapped"))
    assert {"made by a namespace", "in a dictionary"} <= set(found)
    assert names(connections("mapped.signals:events")) == ["made by a namespace"]


def test_signals_of_a_namespace_are_where_they_were_asked_for_and_heard_or_not(
    program: Path,
) -> None:
    (program / "mapped" / "events.py").write_text(
        "from tsignals import Namespace, receiver_failed\n\nevents = Namespace()\n\n"
        "events.signal('paid')\nevents.signal('sent')\n"
    )
    assert mapped("mapped.events:events") == (
        "paid  mapped/events.py:5\n└─ nobody hears it\n\n"
        "sent  mapped/events.py:6\n└─ nobody hears it\n\n"
        "2 signals, 0 connections; nobody hears 2 of them\n"
    )
    found = names(connections("mapped.events", unheard=True))
    assert found == ["paid", "sent", "tsignals.receiver_failed"]  # what it has imported comes last


def test_declared_signal_is_where_its_definition_stands(program: Path) -> None:
    (program / "mapped" / "declared.py").write_text(
        "from tsignals import Signal\n\n\n@Signal.declare\n"
        "def paid(sender: object, *, order: int) -> None:\n    'Money came.'\n"
    )
    entry = connections("mapped.declared")[0]
    assert (entry["name"], entry["doc"]) == ("paid", "Money came.")
    assert entry["defined"] == "mapped/declared.py:4"


def test_unheard_shows_what_nobody_hears_and_nothing_else(program: Path) -> None:
    assert mapped("mapped.signals:unheard", "mapped.receivers", "--unheard") == (
        "nobody.listens  mapped/signals.py:16\n└─ nobody hears it\n\n"
        "1 signal, 0 connections; nobody hears 1 of them\n"
    )


@pytest.mark.parametrize(
    ("source", "asked", "said"),
    [
        (None, "broken", r"cannot import broken: ModuleNotFoundError: No module named 'broken'"),
        ("import gone", "broken", r"cannot import broken: ModuleNotFoundError: .*'gone' \(.*:1\)"),
        ("\nx = (", "broken", r"cannot import broken: SyntaxError: .*"),
        ("raise ValueError('a\\nb')", "broken", r"cannot import broken: ValueError: a b \(.*:1\)"),
        (
            "import pytest\npytest.skip('x', allow_module_level=True)",
            "broken",
            r".*: Skipped: .*:2\)",
        ),
        ("raise BaseException", "broken", r"cannot import broken: BaseException \(broken.py:1\)"),
        (
            "class Odd(Exception):\n  def __str__(self): raise self\nraise Odd",
            "broken",
            r"cannot import broken: Odd: it cannot say what is wrong \(broken.py:3\)",
        ),
        # Where the program went wrong, and not where that was noticed.
        (
            "import tsignals\n@tsignals.receiver(tsignals.receiver_failed)\ndef f(failure): ...",
            "broken",
            r"cannot import broken: ValueError: Signal receivers must .* \(broken.py:2\)",
        ),
        ("raise SystemExit(0)", "broken", r"cannot import broken: SystemExit: 0 \(broken.py:1\)"),
        (
            "import sys\nsys.modules[__name__] = None",
            "broken",
            r"import of broken halted; None in sys.modules",
        ),
        ("", "broken:what", r"module 'broken' has no 'what'"),
        ("what = 3", "broken:what", r"broken:what is no signal and holds none, but 'int'"),
        ("", "", r"cannot import : ValueError: Empty module name"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(
    program: Path,
    source: str | None,
    asked: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if source is not None:
        (program / "broken.py").write_text(source)
    try:
        assert main(["map", asked]) == 2
    finally:
        sys.modules.pop("broken", None)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"python -m tsignals map: {said}\n", err), err


def mapped_in(folder: Path, module: str, out: Any = subprocess.PIPE) -> Any:
    """``python -m tsignals map`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tsignals", "map", module],
        cwd=folder,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
    )


@pytest.mark.once
def test_line_is_said_wherever_the_program_lies(tmp_path: Path) -> None:
    """Lines of Python's own ``importlib`` are left out, and not those below such a name."""
    folder = tmp_path / "importlib_demo"
    folder.mkdir()
    (folder / "broken.py").write_text("raise ValueError('bad')")
    done = mapped_in(folder, "broken")
    assert done.returncode == 2
    assert "cannot import broken: ValueError: bad (broken.py:1)" in done.stderr


@pytest.mark.once
def test_map_ends_though_a_module_has_started_a_thread_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(
        "import threading, time, tsignals\n"
        "paid = tsignals.Signal()\n"
        f"threading.Thread(target=time.sleep, args=({10 * TIMEOUT},)).start()\n"
    )
    done = mapped_in(tmp_path, "busy")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("busy.paid  busy.py:2")


@pytest.mark.once
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device here")
def test_map_that_cannot_be_written_says_so_in_one_line(program: Path) -> None:
    with open("/dev/full", "w") as full:
        done = mapped_in(program, "mapped", full)
    assert done.returncode == 2
    assert done.stderr == "python -m tsignals: cannot write: No space left on device\n"


def test_file_is_named_as_a_module() -> None:
    assert "is a file: name the module, as in shop.signals" in mapped("shop/signals.py", status=2)


def test_module_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map"]) == 2
    assert "name a module, or give --django-settings" in capsys.readouterr().err


@pytest.mark.parametrize("what", [3, None, len])
def test_connections_refuses_what_is_no_signal(what: Any) -> None:
    with pytest.raises(TypeError, match="needs modules, their names, or signals, not"):
        connections(what)


class Shy:
    """A receiver that must not be asked anything."""

    __slots__ = ("__weakref__",)

    def __call__(self, **named: Any) -> None:
        raise AssertionError("called")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)

    def __repr__(self) -> str:
        raise AssertionError("repr")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        raise AssertionError("hashed")


def test_receivers_and_senders_are_not_asked_anything() -> None:
    signal, shy = Signal(), Shy()
    signal.connect(shy, sender=shy)
    [entry] = connections(signal)
    [found] = entry["receivers"]
    assert found["name"] == "<test_map.Shy>"
    assert found["sender"] == "<test_map.Shy>"
    assert found["where"] is not None
    assert found["where"].startswith("tests/test_map.py:")


def test_signal_that_is_no_attribute_is_called_by_where_it_was_made() -> None:
    [entry] = connections(Signal())
    assert re.fullmatch(r"made at tests/test_map.py:\d+", entry["name"])
    assert entry["attribute"] is None
    assert entry["name"] == f"made at {entry['defined']}"


def test_dead_receivers_are_not_shown() -> None:
    signal, ear = Signal(), Ear()
    signal.connect(ear)
    signal.connect(ear.hear, sender=Thing)
    assert len(connections(signal)[0]["receivers"]) == 2
    del ear
    assert connections(signal)[0]["receivers"] == []


def test_methods_of_background_receivers_say_how_they_run() -> None:
    class Desk:
        @background
        async def note(self, **named: Any) -> None: ...

    desk, signal = Desk(), Signal()
    signal.connect(desk.note)
    [found] = connections(signal)[0]["receivers"]
    assert (found["runs"], found["async"], found["ordered"]) == ("background", True, False)
    assert found["name"].endswith("Desk.note")


# -- Other libraries --


def test_signals_of_blinker_are_shown() -> None:
    blinker = pytest.importorskip("blinker")
    namespace = blinker.Namespace()
    paid = namespace.signal("paid", doc="Money came.\n\nMore.")

    def hear(sender: object) -> None: ...

    paid.connect(hear)
    paid.connect(hear, sender=Thing)
    paid.connect(hear, sender="shop", weak=False)
    [entry] = connections(paid)
    assert (entry["name"], entry["library"], entry["doc"]) == ("paid", "blinker", "Money came.")
    assert {each["sender"] for each in entry["receivers"]} == {None, "helpers.Thing", "?"}
    assert {each["name"] for each in entry["receivers"]} == {
        f"test_map.{test_signals_of_blinker_are_shown.__name__}.<locals>.hear"
    }
    assert "paid" in names(connections())  # though it is an attribute of no module


def test_signal_of_two_libraries_is_shown_as_ours() -> None:
    """Who comes from blinker may have one for the time of the change."""
    blinker = pytest.importorskip("blinker")

    class Both(Signal, blinker.Signal):  # type: ignore[misc]
        def __init__(self) -> None:
            Signal.__init__(self, name="both")

    both = Both()
    both.connect(ignore)
    [entry] = connections(both)
    assert (entry["name"], entry["library"], len(entry["receivers"])) == ("both", "tsignals", 1)


def test_signals_of_django_are_shown() -> None:
    dispatch = pytest.importorskip("django.dispatch")
    saved, thing = dispatch.Signal(), Thing()

    async def hear(**named: Any) -> None: ...

    class Desk:
        @background(ordered=True)
        def note(self, **named: Any) -> None: ...

    desk = Desk()
    saved.connect(hear, sender=Thing)
    saved.connect(hear, dispatch_uid="twice", weak=False)
    receiver(saved, sender=thing)(desk.note)
    [entry] = connections(saved)
    first, second, third = entry["receivers"]
    assert entry["library"] == "django"
    assert (first["sender"], first["weak"], first["async"], first["uid"]) == (
        "helpers.Thing",
        True,
        True,
        None,
    )
    assert (second["sender"], second["weak"], second["uid"]) == (None, False, "twice")
    assert (third["sender"], third["runs"], third["ordered"]) == (
        "<helpers.Thing>",
        "background",
        True,
    )


DJANGO_APP = """
from django.apps import AppConfig


class PizzaConfig(AppConfig):
    name = "pizza"

    def ready(self):
        from pizza import receivers
"""
DJANGO_RECEIVERS = """
from django.contrib.auth.models import User
from django.db.models.signals import post_save
from django.dispatch import Signal, receiver

from tsignals.django import on_commit

baked = Signal()


@receiver(post_save, sender=User)
@on_commit(ordered=True)
def welcome(**named): ...
"""


@pytest.mark.once
def test_django_project_is_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("django")
    (tmp_path / "pizza").mkdir()
    (tmp_path / "pizza" / "__init__.py").write_text("")
    (tmp_path / "pizza" / "apps.py").write_text(DJANGO_APP)
    (tmp_path / "pizza" / "receivers.py").write_text(DJANGO_RECEIVERS)
    (tmp_path / "settings.py").write_text(
        "INSTALLED_APPS = ['django.contrib.contenttypes', 'django.contrib.auth', 'pizza']\n"
    )
    monkeypatch.chdir(tmp_path)
    found = mapped("--django-settings", "settings")
    assert found.startswith(
        "pizza.receivers.baked  pizza/receivers.py:8  (django)\n└─ nobody hears it\n"
    )
    [line] = re.findall(r"^django\.db\.models\.signals\.post_save .*\n.*$", found, re.M)
    assert re.search(r"  django/db/models/signals\.py:\d+  \(django\)\n└─ ", line)
    assert line.endswith(
        "pizza.receivers.welcome  pizza/receivers.py:11  "
        "from django.contrib.auth.models.User, on_commit, ordered"
    )
    assert "django.contrib.auth.management.create_permissions" in found
    assert "cannot import nowhere" in mapped("--django-settings", "nowhere", status=2)
    # Models without settings: what is raised says what to do.
    said = mapped("pizza.receivers", status=2)
    assert said.count("\n") == 1
    assert "ImproperlyConfigured" in said


@pytest.mark.once
def test_signals_that_a_module_has_imported_stand_behind_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the other library is: its path may come before the module's."""
    pytest.importorskip("blinker")
    made = 'import blinker\n{0} = blinker.Signal("{0}")\n'
    (tmp_path / "a_library.py").write_text(made.format("theirs"))
    (tmp_path / "shop.py").write_text(f"from a_library import theirs\n{made.format('ours')}")
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"^\S+  \S+:\d+", mapped("shop"), re.M)
    assert found == ["shop.ours  shop.py:3", "a_library.theirs  a_library.py:2"]


@pytest.mark.once
def test_django_project_without_apps_of_its_own_shows_what_is_heard(tmp_path: Path) -> None:
    pytest.importorskip("django")
    (tmp_path / "bare.py").write_text(
        "INSTALLED_APPS = ['django.contrib.contenttypes', 'django.contrib.auth']\n"
    )
    map = [sys.executable, "-m", "tsignals", "map", "--django-settings", "bare"]
    done = processes.command(map, cwd=tmp_path, env=processes.environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert "django.contrib.auth.management.create_permissions" in done.stdout
    assert "nobody hears it" not in done.stdout


# -- Graphs, and colours --


def drawn(format: str, *what: str) -> str:
    """What the command prints in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["map", *what, "--format", format]) == 0
    return out.getvalue()


def test_mermaid_quotes_what_would_be_markup(program: Path) -> None:
    lines = drawn("mermaid", "evil_program:evil").splitlines()
    assert lines[0] == "flowchart LR"
    quoted = re.findall(r'"([^"]*)"', "\n".join(lines[1:]))
    assert len(quoted) == 4  # a signal, a receiver, and two edges
    assert not re.search(r"[<>&`]", "".join(quoted).replace("<br/>", ""))
    assert '  s0 -->|"1: priority 5, uid mails"| r0\n' in drawn("mermaid", "mapped.receivers")


def test_dot_is_read_by_graphviz() -> None:
    if shutil.which("dot") is None:
        pytest.skip("there is no dot (Debian: graphviz)")
    done = subprocess.run(
        ["dot", "-Tplain"],
        input=drawn("dot", "evil_program:evil"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    lines = [line.split()[0] for line in done.stdout.splitlines()]
    assert (lines.count("node"), lines.count("edge")) == (2, 2)


def test_dot_quotes_what_would_end_a_text() -> None:
    left = re.sub(r'"(?:[^"\\]|\\.)*"', "T", drawn("dot", "evil_program:evil"))
    assert re.sub(r"\s+", " ", left) == (
        "digraph signals { rankdir=LR; node [shape=box]; s0 [label=T, shape=ellipse]; "
        "r0 [label=T]; s0 -> r0 [label=T]; s0 -> r0 [label=T]; } "
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(*what: str) -> str:
    with contextlib.redirect_stdout(Terminal()) as out:
        assert main(["map", *what]) == 0
    return out.getvalue()


@pytest.mark.parametrize("rich", [True, False])
def test_terminal_gets_utf_8_whatever_it_says_of_itself(
    program: Path, monkeypatch: pytest.MonkeyPatch, rich: bool
) -> None:
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich", None)

    class Ascii(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    written = io.BytesIO()
    with contextlib.redirect_stdout(Ascii(written, encoding="ascii")) as out:
        assert main(["map", "mapped.receivers"]) == 0
        out.flush()
    assert "└─ " in written.getvalue().decode("utf-8")


def test_tree_has_colours_on_a_terminal_where_rich_is(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "20")  # lines are not broken
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    plain = drawn("tree", "mapped.receivers", "evil_program")
    out = on_a_terminal("mapped.receivers", "evil_program")
    assert "\x1b[" in out
    assert re.sub(r"\x1b\[[\d;]*m", "", out) == plain
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "rich" else find_spec(name)
    )
    assert on_a_terminal("mapped.receivers", "evil_program") == plain


def by_customer(sender: object, **named: Any) -> Any: ...


def test_what_was_asked_for_at_connect_is_shown() -> None:
    signal = Signal(name="test.asked")
    policy = Retry(OSError, attempts=3)

    def hear(**named: Any) -> None: ...

    @background(ordered=by_customer, retry=policy)
    def later(**named: Any) -> None: ...

    signal.connect(hear, once=True, retry=policy, ordered=by_customer)
    signal.connect(later)
    [entry] = connections(signal)
    shown = repr(policy).replace("on=<class 'OSError'>", "OSError")
    assert [(each["once"], each["retry"], each["ordered"]) for each in entry["receivers"]] == [
        (True, shown, "by by_customer"),
        (False, shown, "by by_customer"),
    ]


def test_what_retry_is_about_is_shown_by_name_and_never_asked() -> None:
    class Transient:
        def __call__(self, error: Exception) -> bool:
            return False

        def __repr__(self) -> str:
            raise RuntimeError("not configured")

    def is_busy(error: Exception) -> bool:
        return True

    signal = Signal(name="test.retried")
    for on in (Transient(), is_busy, (OSError, ValueError)):
        signal.connect(lambda **named: None, weak=False, retry=Retry(on))
    [entry] = connections(signal)
    assert [str(each["retry"]).partition(", ")[0] for each in entry["receivers"]] == [
        "Retry(<Transient>",
        f"Retry({is_busy.__qualname__}",
        "Retry(OSError | ValueError",
    ]


def test_sender_that_cannot_be_written_is_shown_all_the_same() -> None:
    signal = Signal(name="test.long")
    sender = 10**5000
    with signal.connect(ignore, sender):
        [entry] = connections(signal)
    assert [each["sender"] for each in entry["receivers"]] == ["<int>"]


@pytest.mark.parametrize("format", ["tree", "mermaid", "dot", "json", "html"])
def test_values_and_docs_take_one_line_and_may_have_what_no_encoding_has(
    format: str, tmp_path: Path
) -> None:
    (tmp_path / "odd.py").write_text(
        "from tsignals import Signal\n\n"
        "odd = Signal(['two\\nlines', 'half\\ud800'])\n"
        "odd.__doc__ = 'Half a letter: \\ud800'\n"
    )
    map = [sys.executable, "-m", "tsignals", "map", "odd", "--format", format]
    done = processes.command(map, cwd=tmp_path, env=processes.environment())
    assert (done.returncode, done.stderr) == (0, "")
    assert "lines" in done.stdout
    assert "two\nlines" not in done.stdout
    if format == "json":
        [entry] = json.loads(done.stdout)
        assert entry["providing_args"] == ["two\\nlines", "half\\ud800"]


def test_names_and_uids_take_one_line_whatever_they_are() -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError

        __repr__ = __str__

    odd = Odd()
    signal = Signal(name="two\nlines")
    signal.connect(ignore, dispatch_uid="two\nlines")
    signal.connect(ignore, dispatch_uid=odd)
    [entry] = connections(signal)
    assert entry["name"] == "two\\nlines"
    assert [each["uid"] for each in entry["receivers"]] == ["two\\nlines", "<Odd>"]


def test_comment_of_a_signal_stands_behind_it(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "commented.py").write_text(
        "from tsignals import Signal\n"
        "one = Signal(name='café #: no comment')\n"
        "two = Signal(name='café #: none')  #: What it says.\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = importlib.import_module("commented")
    assert [connections(each)[0]["doc"] for each in (found.one, found.two)] == ["", "What it says."]


def test_partial_of_a_background_receiver_runs_there_too() -> None:
    @background
    def hears(**named: Any) -> None: ...

    signal = Signal()
    signal.connect(functools.partial(hears, mail="a"), weak=False)
    [found] = connections(signal)[0]["receivers"]
    assert found["runs"] == "background"


def test_attribute_of_a_background_function_is_no_part_of_it() -> None:
    def hears(**named: Any) -> None: ...

    hears.whole = "not this"  # type: ignore[attr-defined]
    blinker = pytest.importorskip("blinker")
    key = functools.partial(by_customer)
    wrapper = background(hears, ordered=key, retry=Retry(OSError))
    ours, theirs = Signal(), blinker.Signal()
    ours.connect(wrapper)
    theirs.connect(wrapper)
    entries = [connections(each)[0]["receivers"][0] for each in (ours, theirs)]
    assert [each["runs"] for each in entries] == ["background", "background"]
    assert entries[0]["ordered"] == entries[1]["ordered"] == "by by_customer"
    assert entries[0]["retry"] == entries[1]["retry"] is not None


def test_name_that_a_module_cannot_give_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "lazy.py").write_text(
        "from tsignals import Signal\n"
        "paid = Signal()\n"
        "def __getattr__(name): raise RuntimeError('settings are not configured')\n",
        "utf-8",
    )
    done = processes.command(
        [sys.executable, "-m", "tsignals", "map", "lazy:piad"], expected=2, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "python -m tsignals map: module 'lazy' has no 'piad': "
        "RuntimeError('settings are not configured')"
    ]
