"""python-memcached, pure Python."""

import sys

import memcache

# The client remembers uniques only with `cache_cas`, and forgets them only with `reset_cas`.
reader, writer = (memcache.Client([sys.argv[1]], cache_cas=True, socket_timeout=60) for _ in range(2))

assert reader.flush_all() is None
assert reader.get("name") is None
assert reader.set("name", "Ada")
assert reader.get("name") == "Ada"
assert not reader.add("name", "Grace") and reader.add("other", "Grace")
assert reader.replace("name", "Eve") and not reader.replace("missing", "Eve")
assert reader.append("name", "!") and reader.prepend("name", "<")
assert reader.get("name") == "<Eve!"

assert reader.gets("name") == "<Eve!"
assert writer.set("name", "Mallory")
assert not reader.cas("name", "Ada")
reader.reset_cas()
assert reader.gets("name") == "Mallory"
assert reader.cas("name", "Ada") and reader.get("name") == "Ada"

assert reader.set("number", 9)
assert reader.incr("number", 3) == 12 and reader.decr("number", 20) == 0
assert reader.incr("missing", 1) is None

assert reader.touch("number", 100)
assert reader.touch("number", -1) and reader.get("number") is None
assert reader.set("name", "Ada", time=-1) and reader.get("name") is None

assert reader.set_multi({f"many{n}": n for n in range(100)}) == []
assert reader.get_multi([f"many{n}" for n in range(101)]) == {f"many{n}": n for n in range(100)}
assert reader.delete("many7")
assert reader.get("many7") is None

large = bytes(range(256)) * 2000
assert reader.set("large", large) and reader.get("large") == large

[(_, stats)] = reader.get_stats()
assert stats["version"].startswith("1.6.") and int(stats["curr_items"]) > 0
reader.flush_all()
assert reader.get("large") is None

# The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
assert reader.get("price") is None
writer.delete("price")
assert reader.set("price", "old") == (sys.argv[2] != "refusing")
assert reader.get("price") == writer.get("price") == ("old" if sys.argv[2] == "plain" else None)
