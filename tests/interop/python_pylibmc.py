"""pylibmc, Python bindings of libmemcached, the C library: text|binary <address> <server> [<user>:<password>]"""

import sys

import pylibmc

protocol, address, server, *login = sys.argv[1:]
options = {"binary": protocol == "binary", "behaviors": {"cas": True, "connect_timeout": 60_000, "_poll_timeout": 60_000}}
if login:
    options["username"], options["password"] = login[0].split(":")
reader, writer = (pylibmc.Client([address], **options) for _ in range(2))

assert reader.flush_all()
assert reader.get("name") is None
assert reader.set("name", "Ada")
assert reader.get("name") == "Ada"
assert not reader.add("name", "Grace") and reader.add("other", "Grace")
assert reader.replace("name", "Eve")
try:
    assert not reader.replace("missing", "Eve") and protocol == "text"
except pylibmc.NotFound:
    assert protocol == "binary"
assert reader.append("name", "!") and reader.prepend("name", "<")
assert reader.get("name") == "<Eve!"

value, unique = reader.gets("name")
assert writer.set("name", "Mallory")
assert not reader.cas("name", "Ada", unique)
value, unique = reader.gets("name")
assert reader.cas("name", "Ada", unique) and reader.get("name") == "Ada"

assert reader.set("number", 9)
assert reader.incr("number", 3) == 12 and reader.decr("number", 20) == 0
try:
    assert not reader.incr("missing", 1)
except pylibmc.NotFound:
    pass

assert reader.touch("number", 100) and not reader.touch("missing", 100)
# Above 30 days the number is a date, this one in January 1970.
assert reader.set("name", "Ada", time=2_592_001) and reader.get("name") is None

assert reader.set_multi({f"many{n}": n for n in range(100)}) == []
assert reader.get_multi([f"many{n}" for n in range(101)]) == {f"many{n}": n for n in range(100)}
assert reader.delete("many7") and not reader.delete("many7")
assert reader.get("many7") is None

large = bytes(range(256)) * 2000
assert reader.set("large", large) and reader.get("large") == large

[(_, stats)] = reader.get_stats()
assert stats["version"].startswith(b"1.6.") and int(stats["curr_items"]) > 0
assert reader.flush_all() and reader.get("large") is None

# The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
assert reader.get("price") is None
writer.delete("price")
assert reader.set("price", "old") == (server != "refusing")
assert reader.get("price") == writer.get("price") == ("old" if server == "plain" else None)
