"""What ``python -m tsignals demo`` runs. Nothing in the core imports it.

``threaded``: a threaded web server of the standard library, with a slow receiver. Its receivers and
what they count are in ``bookkeeping``, the server and its clients in ``web``, the output in
``screen``.
``shop``: an application with a database, under a real server; ``orders``: its customers, and the
proof that nothing was lost. These two need the extra ``tsignals[shop]``.
"""
