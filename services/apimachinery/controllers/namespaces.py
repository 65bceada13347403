async def end_namespaces(loopback):  # written below
    import asyncio
    await asyncio.Event().wait()
