"""The data plane of a hypervisor: guests' packets into IPv6 tunnels and back, driven by DPDKironcore gRPC.

`model/` has the rules (pure), `guest/` the answers that guests get, `engine/` makes packets follow the rules (eBPF, or
a memory twin), `bpf/` holds the programs, `node/` watches network devices and neighbours, `api/` is the gRPC door.
Nothing here knows where routes come from. Read dataplane.py first.
"""
