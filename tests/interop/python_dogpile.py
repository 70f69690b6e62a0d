"""dogpile.cache over pymemcache, with its lock in the cache: one of many callers makes a row."""

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE

THREADS = 8
host, port = sys.argv[1].split(":")
arguments = {"url": [(host, int(port))], "socket_timeout": 60, "distributed_lock": True, "lock_timeout": 60}
reader, writer = (make_region().configure("dogpile.cache.pymemcache", arguments=arguments) for _ in range(2))
made = []


def make():
    made.append("database")
    return {"first": ["Ada", 1]}


reader.backend.client.flush_all()
assert reader.get("name") is NO_VALUE
reader.set("name", "Ada")
assert reader.get("name") == writer.get("name") == "Ada"
reader.set("nothing", None)
assert reader.get("nothing") is None
reader.set_multi({f"many{n}": n for n in range(100)})
assert reader.get_multi([f"many{n}" for n in range(101)]) == [*range(100), NO_VALUE]
reader.delete_multi([f"many{n}" for n in range(100)])
assert reader.get("many7") is NO_VALUE
large = bytes(range(256)) * 2000
reader.set("large", large)
assert reader.get("large") == large

# All threads of both regions ask at once, each with a connection of its own.
ready = Barrier(THREADS)


def create(region):
    ready.wait()
    return region.get_or_create("row", make)


with ThreadPoolExecutor(THREADS) as threads:
    rows = list(threads.map(create, [reader, writer] * (THREADS // 2)))
assert rows == [{"first": ["Ada", 1]}] * THREADS and made == ["database"], made
assert reader.get_or_create_multi(["row", "other"], lambda *missing: [list(missing)]) == [rows[0], ["other"]]

# The lock is a value that `add` makes and `delete` removes. Waiting for it leaves no miss behind.
mine, other = reader.backend.get_mutex("door"), writer.backend.get_mutex("door")
for _ in range(3):
    assert mine.acquire(False) and not other.acquire(False)
    mine.release()
    assert other.acquire(False) and not mine.acquire(False)
    other.release()

calls = []


@reader.cache_on_arguments()
def square(n):
    calls.append(n)
    return n * n


assert [square(7), square(7), square(8)] == [49, 49, 64] and calls == [7, 8]
square.invalidate(7)
assert square(7) == 49 and calls == [7, 8, 7]

# The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
assert reader.get("price") is NO_VALUE
writer.delete("price")
reader.set("price", "old")
assert reader.get("price") == writer.get("price") == ("old" if sys.argv[2] == "plain" else NO_VALUE)
