"""Records of volumes and the rules about them. Pure: no I/O, no asyncio; times and random values are passed in."""
