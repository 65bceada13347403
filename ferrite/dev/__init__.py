"""A whole cluster on one machine: real processes in network namespaces, nothing simulated.

`plan.py` says what belongs to a cluster (pure: names, addresses, command lines), `network.py` makes namespaces and
links, `supervisor.py` keeps the processes running, `cluster.py` brings it up and down, `demo.py` runs the main job on
it and checks the result. Product code never imports from here.
"""
