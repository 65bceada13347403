"""The network of one partition: kinds of networking.metalnet.ironcore.dev, and what realises them on each hypervisor.

`apiserver/` serves the kinds; `agent/` runs on every hypervisor: it gives each NetworkInterface of its node a device,
programs the data plane through DPDKironcore, announces where the addresses are and installs the routes that others
announce. `model/` is pure: what is wanted, who owns which device, which next hop is programmed. `claims.py` keeps the
devices' owners on disk.
"""
