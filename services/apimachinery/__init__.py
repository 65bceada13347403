"""A Kubernetes-style API server as a library, and its client side.

Server: `kinds` and `schema/` (what an object may look like, made from the protos), `patch/` (how it is changed),
`store/` (etcd, watch cache), `server/` (one write path, two doors: REST and gRPC), `controllers/` (garbage collection,
namespaces). Client: `client/` (one interface, two transports), `runtime/` (informer, work queue, reconciler, leader
election, event recorder). No kind of Ferrite's own is named here; services bring theirs. Read `kinds.py` first.
"""
