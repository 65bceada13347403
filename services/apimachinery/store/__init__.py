"""Where objects live: etcd, the form of a stored value, and a cache of bytes fed by watches.

Nothing here knows HTTP, gRPC or a kind's rules. Read etcd.py (transactions, ranges, watches), then value.py (what the
bytes mean, encryption at rest), then watch_cache.py (lists and watches from memory).
"""
