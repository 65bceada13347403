"""Programs that measure: each prints a table with the machine and the command, and writes build/bench/NAME.json.

They use real processes and real kernels in places of their own, and leave nothing behind. `lab` makes namespaces for
packets, `report` prints and writes; every other module is one bench.
"""
