"""The rules of the core kinds, pure: no I/O, no asyncio, time and random choices passed in.

What the API server needs: `hooks.py` (defaults and checks of each kind), `admission.py` (device names, volume growth),
`address_index.py` (one owner for each address).
What the scheduler needs: `placement.py`, `ledger.py`, `tolerations.py`. What the controllers need: `names.py`,
`ephemeral.py`, `claims.py`, `free_set.py`, `allocation.py`, `lifecycle.py`.
"""
