"""The kill check: what happens to guests and to acknowledged writes when each process in turn dies, hangs or finds its
disk full.

`matrix.py` says what is harmed and what must hold, `objects.py` what is written; `pings.py`, `ledger.py` and
`inventory.py` judge what was seen (all pure). `harm.py`, `writer.py`, `monitors.py` and `survey.py` do the harming, the
writing and the looking on a cluster of `ferrite.dev`. `trial.py` is one case, `program.py` runs the matrix.
"""
