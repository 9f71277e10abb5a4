"""What everything else stands on: errors, the log, interrupts, the process, timeouts, observers,
and reading definitions.

It imports nothing of the packages above it.
"""
