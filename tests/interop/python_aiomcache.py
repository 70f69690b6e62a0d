"""aiomcache, a pure Python client for asyncio: keys and values are bytes."""

import asyncio
import sys

from aiomcache import Client
from aiomcache.exceptions import ClientException

host, port = sys.argv[1].split(":")


async def main():
    # One connection for each client, so that every request of a client uses the same one.
    reader, writer = (Client(host, int(port), pool_size=1, conn_args={"limit": 2**20}) for _ in range(2))

    await reader.flush_all()
    assert await reader.get(b"name") is None and await reader.get(b"name", b"missing") == b"missing"
    assert await reader.set(b"name", b"Ada") and await reader.get(b"name") == b"Ada"
    assert not await reader.add(b"name", b"Grace") and await reader.add(b"other", b"Grace")
    assert await reader.replace(b"name", b"Eve") and not await reader.replace(b"missing", b"Eve")
    assert await reader.append(b"name", b"!") and await reader.prepend(b"name", b"<")
    assert await reader.get(b"name") == b"<Eve!"

    value, unique = await reader.gets(b"name")
    assert await writer.set(b"name", b"Mallory")
    assert not await reader.cas(b"name", b"Ada", unique)
    value, unique = await reader.gets(b"name")
    assert await reader.cas(b"name", b"Ada", unique) and await reader.get(b"name") == b"Ada"

    assert await reader.set(b"number", b"9")
    assert await reader.incr(b"number", 3) == 12 and await reader.decr(b"number", 20) == 0
    try:
        await reader.incr(b"missing", 1)
        raise AssertionError("incr of a missing key")
    except ClientException:
        pass

    assert await reader.touch(b"number", 100) and not await reader.touch(b"missing", 100)
    assert await reader.touch(b"number", -1) and await reader.get(b"number") is None
    # Above 30 days the number is a date, this one in January 1970.
    assert await reader.set(b"name", b"Ada", exptime=2_592_001) and await reader.get(b"name") is None

    keys = [b"many%d" % n for n in range(101)]
    assert all(await asyncio.gather(*(reader.set(key, key) for key in keys[:100])))
    assert await reader.multi_get(*keys) == (*keys[:100], None)
    assert await reader.delete(b"many7") and not await reader.delete(b"many7")
    assert await reader.get(b"many7") is None

    large = bytes(range(256)) * 2000
    assert await reader.set(b"large", large) and await reader.get(b"large") == large

    assert (await reader.version()).startswith(b"1.6.")
    assert int((await reader.stats())[b"curr_items"]) > 0
    # A closed client reconnects.
    await reader.close()
    assert await reader.get(b"large") == large
    await reader.flush_all()
    assert await reader.get(b"large") is None

    # The reader misses and reads the row; the writer changes it and deletes the key; then the old row
    # arrives.
    assert await reader.get(b"price") is None
    await writer.delete(b"price")
    assert await reader.set(b"price", b"old") == (sys.argv[2] != "refusing")
    expected = b"old" if sys.argv[2] == "plain" else None
    assert await reader.get(b"price") == await writer.get(b"price") == expected
    await reader.close()
    await writer.close()


asyncio.run(main())
