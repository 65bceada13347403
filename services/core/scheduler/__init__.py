"""Schedulers bind objects to pools: `scheduler.py` says how, `subjects.py` what. Rules: `model/placement.py`."""
