"""VolumeRuntime on Ceph: volumes are RBD images of one pool, their records live in the omap of an object of that pool.

`model/` has the rules (no I/O), `cluster.py` the connection, `store.py` the records, `images.py` and `users.py` what a
volume is made of, `reconcile.py` the loop that makes it, `server/` the gRPC calls. Read `reconcile.py` first.
"""
