async def collect_garbage(loopback):  # written below
    import asyncio
    await asyncio.Event().wait()
