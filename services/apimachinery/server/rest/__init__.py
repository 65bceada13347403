"""The REST door: Kubernetes' HTTP conventions in front of the pipeline and the reader.

`target.py` reads a URL, `media.py` agrees on a body's form, `encode.py` writes answers, `handler.py` joins them;
`discovery.py` and `documents.py` are what kubectl reads about the server itself.
"""
