"""What an object may look like: one schema per kind, compiled from its protobuf message, options and comments.

Pure functions on the *tree*, the Kubernetes JSON as dict, list, str, int, float, bool and None; no I/O lives here. Read
`schema.py` first; `decode.py` leads from bytes to a tree, `converter.py` from a tree to a message and back.
"""
