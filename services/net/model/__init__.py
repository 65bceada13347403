"""Pure rules of the network control plane: no I/O, no asyncio."""
