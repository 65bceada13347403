"""Poollets: one process a pool, between the core API and a runtime that speaks IRI (machines, volumes).

`runtime.py` reaches the runtime, `feed.py` notices what changes there, `classes.py` (pure) matches classes; `machine/`
and `volume/` each have a reconciler of their objects and one of their pool, and pure modules that translate both ways.
"""
