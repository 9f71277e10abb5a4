"""Where signals and executors meet: what a send becomes that runs elsewhere.

Deliveries, from the call of one receiver to what a send returns; how they get into a pool, onto
its event loop, or into another executor. How any of these runs is not its affair.
"""
