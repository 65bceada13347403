"""Controllers of the core kinds, one file each; `registry.py` names them, `__main__.py` runs them."""
