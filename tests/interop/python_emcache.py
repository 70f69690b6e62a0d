"""emcache, a Cython client for asyncio. It authenticates with the third argument, `user:password`, if any."""

import asyncio
import sys
from contextlib import contextmanager

import emcache

host, port = sys.argv[1].split(":")
address = emcache.MemcachedHostAddress(host, int(port))
user, _, password = sys.argv[3].partition(":") if len(sys.argv) > 3 else ("", "", "")


@contextmanager
def raises(error):
    try:
        yield
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


def client():
    # One connection for each client, so that every request of a client uses the same one.
    return emcache.create_client(
        [address], timeout=60, connection_timeout=60, max_connections=1, min_connections=1,
        username=user or None, password=password or None,
    )


async def value(reader, key):
    item = await reader.get(key)
    return item and item.value


async def main():
    reader, writer = await client(), await client()

    await reader.flush_all(address)
    assert await reader.get(b"name") is None
    await reader.set(b"name", b"Ada", flags=7)
    item = await reader.get(b"name", return_flags=True)
    assert (item.value, item.flags) == (b"Ada", 7)
    with raises(emcache.NotStoredStorageCommandError):
        await reader.add(b"name", b"Grace")
    await reader.add(b"other", b"Grace")
    await reader.replace(b"name", b"Eve")
    with raises(emcache.NotStoredStorageCommandError):
        await reader.replace(b"missing", b"Eve")
    await reader.append(b"name", b"!")
    await reader.prepend(b"name", b"<")
    assert await value(reader, b"name") == b"<Eve!"

    before = (await reader.gets(b"name")).cas
    await writer.set(b"name", b"Mallory")
    with raises(emcache.StorageCommandError):
        await reader.cas(b"name", b"Ada", before)
    await reader.cas(b"name", b"Ada", (await reader.gets(b"name")).cas)
    assert await value(reader, b"name") == b"Ada"

    await reader.set(b"number", b"9")
    assert await reader.increment(b"number", 3) == 12 and await reader.decrement(b"number", 20) == 0
    with raises(emcache.NotFoundCommandError):
        await reader.increment(b"missing", 1)

    await reader.touch(b"number", 100)
    with raises(emcache.NotFoundCommandError):
        await reader.touch(b"missing", 100)
    assert (await reader.gat(100, b"number")).value == b"0 "
    assert (await reader.gats(-1, b"number")).cas and await reader.get(b"number") is None

    keys = [b"many%d" % n for n in range(101)]
    await asyncio.gather(*(reader.set(key, key, noreply=True) for key in keys[:100]))
    assert {key: item.value for key, item in (await reader.get_many(keys)).items()} == {k: k for k in keys[:100]}
    assert len(await reader.gets_many(keys)) == len(await reader.gat_many(100, keys)) == 100
    await reader.delete(b"many7")
    with raises(emcache.NotFoundCommandError):
        await reader.delete(b"many7")
    assert await reader.get(b"many7") is None

    large = bytes(range(256)) * 2000
    await reader.set(b"large", large)
    assert await value(reader, b"large") == large

    assert (await reader.version(address)).startswith("1.6.")
    assert int((await reader.stats(address))["curr_items"]) > 0
    await reader.cache_memlimit(address, 64)
    await reader.verbosity(address, 1)
    await reader.flush_all(address)
    assert await reader.get(b"large") is None

    # The reader misses and reads the row; the writer changes it and deletes the key; then the old row
    # arrives.
    assert await reader.get(b"price") is None
    with raises(emcache.NotFoundCommandError):
        await writer.delete(b"price")
    if sys.argv[2] == "refusing":
        with raises(emcache.StorageCommandError):
            await reader.set(b"price", b"old")
    else:
        await reader.set(b"price", b"old")
    expected = b"old" if sys.argv[2] == "plain" else None
    assert await value(reader, b"price") == await value(writer, b"price") == expected
    await reader.close()
    await writer.close()


asyncio.run(main())
