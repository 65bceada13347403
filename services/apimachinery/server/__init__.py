"""The API server: one room, two doors.

`pipeline.py` is the only way to change an object, `reader.py` the only way to read; `rest/` and `grpc/` translate their
protocols into calls of these two. `app.py` puts a server together; a service brings kinds, and what they need beyond
their schema, as `Definition`s (resource.py). Read resource.py, then pipeline.py.
"""
