"""How receivers are called: here and now, one after the other or awaited together, and by name.

It sees connections, plans and signals by small protocols only, and knows neither who is connected
nor any pool. It imports ``_base``. Read ``general`` first.
"""
