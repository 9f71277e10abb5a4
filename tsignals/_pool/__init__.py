"""A pool: a queue, the threads that run what is in it, and futures.

It knows tasks, and nothing of signals, receivers or connections: it stands on ``_base`` alone.
``core`` has its parts and laws, ``state`` its states; what users see of it is ``pool``.
"""
