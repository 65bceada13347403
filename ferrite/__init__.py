"""What people run: the `ferrite` command (`cli/`) and a whole cluster on one machine (`dev/`)."""
