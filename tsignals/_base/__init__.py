"""What everything else stands on: errors, the log, interrupts, the process, timeouts, observers,
and reading definitions.

Nothing here knows of signals, receivers' connections or pools, and nothing of ours is imported.
"""
