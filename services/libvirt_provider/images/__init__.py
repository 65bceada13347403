"""OCI images of machines: `reference.py` and `manifest.py` read names and documents (pure), `layout.py` and
`registry.py` are where blobs come from, `cache.py` keeps them by digest.
"""
