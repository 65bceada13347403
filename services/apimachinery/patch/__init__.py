"""How an object is changed: four patch formats and the record of who set which field. Pure functions on JSON trees.

`json_patch` (RFC 6902) and `merge_patch` (RFC 7386) know no schema; `strategic` and `apply` merge lists by the keys
that a kind's schema names. Results are to be normalised and validated by the caller (`schema/`). Inputs stay as they
are, but a result may share parts with them.
"""
