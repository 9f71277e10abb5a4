"""Whether the tests notice when a line of the core is wrong: mutation testing with cosmic-ray.

    python -m stress mutation                       some hours
    python -m stress mutation --only _pool/lanes    one module, or all whose name contains this

A *mutant* is the core with one small change: ``<`` for ``<=``, ``and`` for ``or``. The tests that
are about its module should fail; then it is killed. `tests.toml` says which tests these are, and
`survivors.md` what was found, and why each mutant lives that does.
"""

from stress.mutation.command import add_parser

__all__ = ["add_parser"]
