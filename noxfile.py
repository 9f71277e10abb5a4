"""The habits of this project, a session each: ``nox -l`` lists them, ``nox -s tests`` runs one."""

import nox

nox.options.sessions = ["quick", "lint", "types"]
nox.options.default_venv_backend = "venv"
nox.needs_version = ">=2024.10"

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.14t"]
NO_WHEELS_FOR = {"3.14t"}  # of what these extras bring
MEASURED = "3.13"


def install(session: nox.Session, *extras: str) -> None:
    session.install("-e", f".[{','.join(extras)}]")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests, as README's command runs them; ``-- tests/test_send.py`` for some."""
    more = () if session.python in NO_WHEELS_FOR else ("dask", "uvloop", "httptools")
    install(session, "test", *more)
    session.run("python", "-m", "pytest", "-q", *session.posargs)


@nox.session
def quick(session: nox.Session) -> None:
    """What a minute is enough for: the loop of daily work."""
    install(session, "test")
    session.run("python", "-m", "pytest", "-q", "-n", "auto", "-m", "not slow", *session.posargs)


@nox.session(python=MEASURED)
def coverage(session: nox.Session) -> None:
    """The tests, measured; fails below what ``pyproject.toml`` asks for."""
    install(session, "test", "dask", "uvloop", "httptools")
    session.run("coverage", "run", "-m", "pytest", "-q", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format; changes nothing."""
    session.install("ruff>=0.9")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def changes(session: nox.Session) -> None:
    """What the next section of the changelog would be."""
    session.install("towncrier>=24")
    session.run("towncrier", "build", "--draft", "--version", "0.0.0")


@nox.session
def types(session: nox.Session) -> None:
    """``mypy --strict`` and ``pyright``, and what both know of the public names."""
    install(session, "test", "dask", "uvloop", "httptools", "dev")
    session.run("mypy", "--strict")
    session.run("pyright")
    # Fails where a public name has no type.
    session.run("pyright", "--verifytypes", "tsignals", "--ignoreexternal")
    session.run("python", "-m", "pytest", "-q", "tests/test_typing.py")


@nox.session(python=["3.13", "3.14"])
def docs(session: nox.Session) -> None:
    """The site, in ``site/``; fails at any warning, and at any link that leads nowhere."""
    install(session, "docs")
    session.run("sphinx-build", "-W", "-n", "-q", "docs", "site", *session.posargs)


@nox.session
def stress(session: nox.Session) -> None:
    """Histories, a soak and bursts, or what is asked for: ``-- models --only connect/send``."""
    install(session, "test")
    if session.posargs:
        session.run("python", "-m", "stress", *session.posargs)
        return
    session.run("python", "-m", "stress", "histories", "--count", "300")
    session.run("python", "-m", "stress", "soak", "--seconds", "15", "--threads", "4")
    session.run("python", "-m", "stress", "bursts", "--seconds", "10")


@nox.session
def bench(session: nox.Session) -> None:
    """How fast it is beside a bare loop and other libraries; ``-- --quick`` for a glance."""
    install(session, "test", "bench")
    session.run("python", "-m", "stress", "bench", *session.posargs)


@nox.session(python=MEASURED)
def mutation(session: nox.Session) -> None:
    """Do the tests notice when a line is wrong? An hour or two; ``-- --only _pool/lanes``."""
    install(session, "test")
    session.install("cosmic-ray>=8.7")
    session.run("python", "-m", "stress", "mutation", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build both archives, check them, and run the quick tests against the installed wheel."""
    install(session, "test", "dev")
    session.run("python", ".ci/package", *session.posargs)
