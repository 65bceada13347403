"""The `ferrite` command: one file per group of sub-commands; `main.py` is the table of contents."""
