"""pymemcache, pure Python, also with `noreply`. A third argument is a certificate, and means TLS."""

import ssl
import sys

from pymemcache.client.base import Client

host, port = sys.argv[1].split(":")
tls = ssl.create_default_context(cafile=sys.argv[3]) if len(sys.argv) > 3 else None
reader, writer = (Client((host, int(port)), default_noreply=False, tls_context=tls) for _ in range(2))

assert reader.flush_all()
assert reader.get("name") is None
assert reader.set("name", "Ada")
assert reader.get("name") == b"Ada"
assert not reader.add("name", "Grace") and reader.add("other", "Grace")
assert reader.replace("name", "Eve") and not reader.replace("missing", "Eve")
assert reader.append("name", "!") and reader.prepend("name", "<")
assert reader.get("name") == b"<Eve!"

value, unique = reader.gets("name")
assert writer.set("name", "Mallory")
assert reader.cas("name", "Ada", unique) is False
value, unique = reader.gets("name")
assert reader.cas("name", "Ada", unique) is True
assert reader.cas("missing", "Ada", unique) is None

assert reader.set("number", "9")
assert reader.incr("number", 3) == 12 and reader.decr("number", 20) == 0
assert reader.incr("missing", 1) is None

assert reader.touch("number", 100) and not reader.touch("missing", 100)
assert reader.get("number") == b"0 " and reader.touch("number", -1) and reader.get("number") is None
assert reader.set("name", "Ada", expire=-1) and reader.get("name") is None

assert reader.set_many({f"many{n}": str(n) for n in range(100)}) == []
assert reader.get_many([f"many{n}" for n in range(101)]) == {f"many{n}": b"%d" % n for n in range(100)}
assert reader.delete("many7") and not reader.delete("many7")
assert reader.get("many7") is None

large = bytes(range(256)) * 2000
assert reader.set("large", large) and reader.get("large") == large

for n in range(1000):
    reader.set("quiet", str(n), noreply=True)
reader.touch("quiet", 100, noreply=True)
assert reader.get("quiet") == b"999"
reader.delete("quiet", noreply=True)
assert reader.get("quiet") is None

assert reader.version().startswith(b"1.6.")
assert reader.stats()[b"curr_items"] > 0
assert reader.flush_all() and reader.get("large") is None

# The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
assert reader.get("price") is None
writer.delete("price")
assert reader.set("price", "old") == (sys.argv[2] != "refusing")
assert reader.get("price") == writer.get("price") == (b"old" if sys.argv[2] == "plain" else None)
