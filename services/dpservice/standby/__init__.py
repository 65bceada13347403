"""Two data planes on one host, of which one serves packets: the other follows its flows and takes over when it dies.

Both are commanded alike, with the same preferred underlay addresses. The active one holds a lock; read `role.py` first.
"""
