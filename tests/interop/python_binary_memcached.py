"""python-binary-memcached, pure Python. With a third argument, `user:password`, it logs in."""

import sys

import bmemcached
from bmemcached.exceptions import MemcachedException

address, server, *login = sys.argv[1:]
user, password = login[0].split(":") if login else (None, None)


def client(user=user, password=password):
    return bmemcached.Client(address, user, password, socket_timeout=60)


reader, writer = client(), client()

assert reader.flush_all()
assert reader.get("name") is None
assert reader.set("name", "Ada")
assert reader.get("name") == "Ada"
assert not reader.add("name", "Grace") and reader.add("other", "Grace")
assert reader.replace("name", "Eve") and not reader.replace("missing", "Eve")

# The flags hold the type of a value, and whether it is compressed.
for value in [7, 1.5, True, ["Ada", 1], b"\r\nEND\r\n\0\xff", "k\xe4se", b"", "long " * 1000]:
    assert reader.set("typed", value) and writer.get("typed") == value

value, unique = reader.gets("name")
assert value == "Eve" and writer.set("name", "Mallory")
assert not reader.cas("name", "Ada", unique)
value, unique = reader.gets("name")
assert reader.cas("name", "Ada", unique) and reader.get("name") == "Ada"
assert not reader.cas("missing", "Ada", unique)
assert not writer.delete("name", cas=unique) and reader.get("name") == "Ada"
assert writer.delete("name", cas=reader.gets("name")[1]) and reader.get("name") is None

assert reader.set("number", 9)
assert reader.incr("number", 3) == 12 and reader.decr("number", 20) == 0
# A missing number begins with the first value.
assert reader.incr("missing number", 1, default=5) == 5 and reader.incr("missing number", 1, default=5) == 6

# Above 30 days the number is a date, this one in January 1970.
assert reader.set("name", "Ada", time=2_592_001) and reader.get("name") is None
assert reader.set("name", "Ada", time=100) and reader.get("name") == "Ada"

# Pipelines of quiet commands.
many = {f"many{n}": n for n in range(100)}
assert reader.set_multi(many) == []
assert reader.get_multi([*many, "many100"]) == many
found = reader.get_multi(["many1", "many2"], get_cas=True)
assert {key: value for key, (value, _) in found.items()} == {"many1": 1, "many2": 2}
assert len({unique for _, unique in found.values()}) == 2
assert reader.delete("many7") and reader.get("many7") is None
assert reader.delete_multi(["many8", "many9"]) and reader.get_multi(["many8", "many9", "many10"]) == {"many10": 10}

large = bytes(range(256)) * 2000
assert reader.set("large", large, compress_level=0) and writer.get("large") == large

[stats] = reader.stats().values()
assert stats["version"].startswith(b"1.6.") and int(stats["curr_items"]) > 0
[settings] = reader.stats("settings").values()
assert settings["cas_enabled"] == b"yes"
assert reader.flush_all() and reader.get("large") is None

if login:
    for stranger in [client(user, "wrong"), client("nobody", password)]:
        try:
            stranger.get("name")
            raise AssertionError("a wrong password is accepted")
        except MemcachedException as refused:
            assert refused.code == 0x20, refused
    try:
        assert client(None, None).get("name") is None
    except MemcachedException as refused:
        assert refused.code == 0x20, refused

# The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
assert reader.get("price") is None
writer.delete("price")
try:
    assert reader.set("price", "old") and server != "refusing"
except MemcachedException as refused:
    assert server == "refusing" and refused.code == 0x05, refused
assert reader.get("price") == writer.get("price") == ("old" if server == "plain" else None)
