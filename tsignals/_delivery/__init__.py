"""Where signals and executors meet: what a send becomes that runs elsewhere.

Deliveries, from the call of one receiver to what a send returns; how they get into a pool or into
another executor; and the event loop of a pool, which runs the async ones.
"""
