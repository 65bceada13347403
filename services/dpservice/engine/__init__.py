"""What makes packets follow the model. `interface.py` is the waist; `ebpf.py` and `memory.py` stand behind it."""
