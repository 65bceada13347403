"""Rules of the data plane: addresses, interfaces, routes, limits, and what is refused with which code. No I/O here.

`rows.py`, `packet_rows.py`, `keys.py` and `changes.py` have the vocabulary, `state.py`
the rules, `errors.py` the refusals, `underlay.py` the address allocator.
"""
