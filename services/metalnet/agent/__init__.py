"""The agent of a hypervisor; `__main__.py` wires it.

dataplane.py    DPDKironcore as typed calls with deadlines
lifetime.py     whether the data plane answers, and whether its state is still the one we know
bond.py         what this host announces, per interface
routes.py       learned routes into the data plane
interfaces.py   the reconciler of NetworkInterface
node.py         the Node object and its heartbeat
"""
