"""Draw the signals of a program: ``python -m tsignals map``.

Imports each MODULE, which connects the receivers in it, and shows its signals and those of its
submodules; then all signals of the process that somebody hears, those of Django and blinker too.
MODULE:NAME shows one signal, or those in a class or a namespace.
"""

import argparse
import contextlib
import functools
import importlib
import io
import json
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

from tsignals.inspecting import connections
from tsignals.inspecting._entries import SignalEntry, short
from tsignals.inspecting._page import page
from tsignals.inspecting._text import dot, mermaid, print_tree, tree

SUMMARY = "draw the signals of a program, and who hears them"

FORMATS: dict[str, Callable[[list[SignalEntry]], str]] = {
    "tree": tree,
    "mermaid": mermaid,
    "dot": dot,
    "json": lambda signals: json.dumps(signals, indent=2, ensure_ascii=False) + "\n",
    "html": page,
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("modules", metavar="MODULE[:NAME]", nargs="*", help="what to import")
    command.add_argument("--format", choices=FORMATS, default="tree", help="(%(default)s)")
    command.add_argument("--unheard", action="store_true", help="only signals that nobody hears")
    command.add_argument(
        "--django-settings",
        metavar="MODULE",
        help="set Django up with these; without MODULE[:NAME], show the signals of its apps",
    )


T = TypeVar("T")


class Failed(Exception):
    """Why there is no map, in one line."""


def run(chosen: argparse.Namespace) -> int:
    """Print the map and return the exit status: 2 if something cannot be imported."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # where Python was told not to (-P)
    try:
        with _output_aside():
            signals = _find(chosen)
    except Failed as error:
        print(f"python -m tsignals map: {error}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    if chosen.format == "tree" and sys.stdout.isatty() and print_tree(signals):
        return 0
    sys.stdout.write(FORMATS[chosen.format](signals))
    return 0


@contextlib.contextmanager
def _output_aside() -> Iterator[None]:
    """What modules print while they are imported, or have other programs print, is no map."""
    out = sys.stdout
    out.flush()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        with contextlib.suppress(OSError):  # one of them is closed
            output = os.dup(1)
            stack.callback(os.close, output)
            os.dup2(2, 1)
            stack.callback(os.dup2, output, 1)
            stack.callback(out.flush)
        yield


def _find(chosen: argparse.Namespace) -> list[SignalEntry]:
    modules: list[str] = chosen.modules
    if chosen.django_settings is not None:
        apps = _set_django_up(chosen.django_settings)
        modules = modules or apps
    if not modules and chosen.django_settings is None:
        raise Failed("name a module, or give --django-settings")
    for each in modules:  # one by one: the error names it
        module = each.partition(":")[0]
        if module.endswith(".py"):
            named = module.removesuffix(".py").replace(os.sep, ".").lstrip(".")
            raise Failed(f"{module} is a file: name the module, as in {named}")
        _trying(f"cannot import {module}", functools.partial(importlib.import_module, module))
    try:
        found = connections(*modules, unheard=chosen.unheard)
    except (AttributeError, ImportError, ValueError) as error:
        raise Failed(str(error)) from error
    # No module: of a project that has but Django's apps, what is heard.
    if modules or chosen.unheard:
        return found
    return [each for each in found if each["receivers"]]


def _set_django_up(settings: str) -> list[str]:
    """``django.setup()``; the names of the installed apps that are not Django's."""
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    _trying(f"cannot import {settings}", lambda: importlib.import_module(settings))

    def set_up() -> list[str]:
        import django
        from django.apps import apps

        django.setup()
        return [app.name for app in apps.get_app_configs() if not app.name.startswith("django.")]

    return _trying("cannot set Django up", set_up)


def _trying(what: str, function: Callable[[], T]) -> T:
    try:
        return function()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything, also to have a test skipped
        frames = traceback.extract_tb(error.__traceback__)
        # The last line of the program's own, unless that is where modules are looked for.
        own = [each for each in frames if not _is_machinery(each.filename)]
        theirs = [each for each in own if not _is_installed(each.filename)]
        where = "".join(f" ({short(at.filename)}:{at.lineno})" for at in (theirs or own)[-1:])
        said = _said_by(error)
        kind = type(error).__name__
        raise Failed(f"{what}: {kind}{f': {said}' if said else ''}{where}") from error


def _said_by(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:
        return "it cannot say what is wrong"


def _is_machinery(file: str) -> bool:
    return file == __file__ or file.startswith(("<frozen importlib", _IMPORTLIB))


def _is_installed(file: str) -> bool:
    """Whether it is of this package, of another that is installed, or of Python itself."""
    places = [_PACKAGE, *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))]
    return file.startswith(("<frozen", *(f"{place}{os.sep}" for place in places)))


_IMPORTLIB = os.path.join(os.path.dirname(importlib.__file__), "")
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
