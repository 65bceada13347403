"""Pure rules of the partition's network: no I/O, no asyncio, no gRPC."""
