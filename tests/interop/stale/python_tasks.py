"""The storm with clients for asyncio: python_tasks.py <name> <address> <seconds> <reads>"""

import asyncio
import sys
from contextlib import suppress

import storm

name, address, *limits = sys.argv[1:]
host, port = address.split(":")


class Aiomcache:
    """Its pool has two connections by default."""

    async def connect(self):
        from aiomcache import Client
        self.client = Client(host, int(port))

    async def get(self, key):
        found = await self.client.get(key.encode())
        return None if found is None else int(found)

    async def set(self, key, version):
        await self.client.set(key.encode(), b"%d" % version)

    async def delete(self, key):
        await self.client.delete(key.encode())


class Emcache:
    """Its pool has at most two connections by default."""

    async def connect(self):
        import emcache
        self.absent = emcache.NotFoundCommandError
        # The default timeout of one second is too short on a busy machine.
        server = emcache.MemcachedHostAddress(host, int(port))
        self.client = await emcache.create_client([server], timeout=60, connection_timeout=60)

    async def get(self, key):
        found = await self.client.get(key.encode())
        return None if found is None else int(found.value)

    async def set(self, key, version):
        await self.client.set(key.encode(), b"%d" % version)

    async def delete(self, key):
        with suppress(self.absent):
            await self.client.delete(key.encode())


async def main():
    cache = {"aiomcache": Aiomcache, "emcache": Emcache}[name]()
    await cache.connect()
    await storm.tasks(cache, limits)
    await cache.client.close()


asyncio.run(main())
