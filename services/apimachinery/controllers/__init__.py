"""The API server's own controllers, which work on any kind: they read the watch caches and write through the pipeline.

`start.py` what must exist from the start, `garbage.py` dependents of deleted owners, `namespaces.py` content of deleted
namespaces. Each is level-triggered and idempotent, so that every replica of a server may run them.
"""
