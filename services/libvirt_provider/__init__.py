"""MachineRuntime on libvirt: machines of the IronCore runtime interface (IRI) as QEMU guests of one hypervisor.

What was asked is on disk before a call returns (`store.py`); `reconcile.py` makes libvirt match it, wakes on libvirt's
events and reports only what it observes. Rules and XML are pure and live in `model/`; what a machine is made of lives
in `images/`, `volumes/` and `nics/`; `server/` answers gRPC. Read `reconcile.py` first.
"""
