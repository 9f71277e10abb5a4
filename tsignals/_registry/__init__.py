"""Who is connected to a signal, as a value that nobody can change, and under which name.

It makes plans of what a send calls (``_calling`` does that), and knows no pool and no executor. It
imports ``_base`` and ``_calling``.
"""
