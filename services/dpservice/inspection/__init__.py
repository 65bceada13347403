"""What packets follow, read out of the pinned maps for people: `dpservice inspect`, `dpservice dump`.

`tables.py` makes rows of maps, `show.py` texts of rows; `main.py` is the command line. Nothing here writes to a map.
"""
