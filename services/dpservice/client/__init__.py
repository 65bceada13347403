"""The client on the command line: `dpservice get|list|create|delete|reset|init`, of ours and of the original's daemon.

`kinds.py` says what objects look like and which calls they become, `reading.py` how answers become objects,
`commands.py` which words and flags there are, `render.py` how objects are shown. Only `session.py` talks to a server.
"""
