"""meta-memcache, which speaks meta commands only: modes, leases, renewals and stale copies by its own policies.

It reads uniques of 32 bits alone, and takes a longer one for none, as all of leasehold's are: what it stores "with" one
is stored without. A lease leaves a note, so that the fence still stands; that nobody else has changed a value meanwhile
is not ensured.
"""

import sys

from meta_memcache import CacheClient, ServerAddress, SetMode, connection_pool_factory_builder
from meta_memcache.configuration import LeasePolicy, RecachePolicy, StalePolicy

host, port = sys.argv[1].split(":")
is_fenced = sys.argv[2] != "plain"


def client():
    pool = connection_pool_factory_builder(max_pool_size=1, connection_timeout=60, recv_timeout=60)
    return CacheClient.cache_client_from_servers([ServerAddress(host, int(port))], pool)


reader, writer = client(), client()
lease = LeasePolicy(ttl=30, miss_retries=1)

for key in ["name", "other", "nobody", "number", "large", "leased", "renewed", "stale", "price", "fälle"]:
    reader.invalidate(key)

assert reader.get("name") is None
assert reader.set("name", "Ada", ttl=60) and reader.get("name") == "Ada"
assert reader.set("name", {"first": ["Ada", 1]}, ttl=60) and reader.get("name") == {"first": ["Ada", 1]}
assert not reader.set("name", "Grace", ttl=60, set_mode=SetMode.ADD)
assert reader.refill("other", "Grace", ttl=60) and not reader.refill("other", "Eve", ttl=60)
assert not reader.set("nobody", "Eve", ttl=60, set_mode=SetMode.REPLACE)
assert reader.set("name", b"Eve", ttl=60) and reader.set("name", b"!", ttl=60, set_mode=SetMode.APPEND)
assert reader.set("name", b"<", ttl=60, set_mode=SetMode.PREPEND) and reader.get("name") == b"<Eve!"

value, unique = reader.get_cas("name")
assert (unique is None) == is_fenced
if unique is not None:
    assert writer.set("name", "Mallory", ttl=60)
    assert not reader.set("name", "Ada", ttl=60, cas_token=unique)
    assert not reader.delete("name", cas_token=unique)
    unique = reader.set_cas("name", "Ada", ttl=60)
    assert reader.set("name", "Grace", ttl=60, cas_token=unique) and reader.get("name") == "Grace"

assert reader.delta_initialize_and_get("number", 3, initial_value=9, initial_ttl=60) == 9
assert reader.delta_and_get("number", 3) == 12 and reader.delta_and_get("number", -20) == 0
assert reader.set("number", 1, ttl=60) and reader.delta("number", 5) and reader.get("number") == 6
assert reader.delta_and_get("nobody", 1) is None

assert reader.touch("name", ttl=100) and not reader.touch("nobody", ttl=100)
# A key that is no ASCII travels in base64.
assert reader.set("fälle", "Ada", ttl=60) and writer.get("fälle") == "Ada"
assert writer.delete("fälle") and not writer.delete("fälle") and reader.get("fälle") is None

for n in range(100):
    reader.set(f"many{n}", n, ttl=60, no_reply=True)
found = reader.multi_get([f"many{n}" for n in range(101)])
assert {key.key: value for key, value in found.items()} == {f"many{n}": n if n < 100 else None for n in range(101)}

large = bytes(range(256)) * 2000
assert reader.set("large", large, ttl=60) and reader.get("large") == large

# One wins, the other hears nothing; the token stores once.
value, token = reader.get_or_lease_cas("leased", lease)
assert value is None
assert writer.get_or_lease("leased", lease) is None
assert reader.set("leased", "Ada", ttl=60, cas_token=token)
assert writer.get_or_lease("leased", lease) == "Ada"

# One renews a value that is about to end, the other goes on reading it.
assert reader.set("renewed", "old", ttl=20)
value, token = reader.get_cas("renewed", recache_policy=RecachePolicy(ttl=30))
assert value is None
assert writer.get("renewed", recache_policy=RecachePolicy(ttl=30)) == "old"
assert reader.set("renewed", "new", ttl=60, cas_token=token)
assert writer.get("renewed", recache_policy=RecachePolicy(ttl=30)) == "new"

# A value that was made stale is loaded again by one, and read by the other until then.
assert reader.set("stale", "old", ttl=60)
assert writer.delete("stale", stale_policy=StalePolicy(mark_stale_on_deletion_ttl=30))
value, token = reader.get_cas("stale")
assert value is None
assert writer.get("stale") == "old"
assert reader.set("stale", "new", ttl=60, cas_token=token) and writer.get("stale") == "new"

# The reader has a lease and loads the row; the writer changes it and deletes the key; then the old row arrives.
value, token = reader.get_or_lease_cas("price", lease)
writer.delete("price")
assert not reader.set("price", "old", ttl=60, cas_token=token) and writer.get("price") is None

# The same without a lease: only a fence can tell.
assert reader.get("price") is None
writer.delete("price")
assert reader.set("price", "old", ttl=60) != is_fenced
assert writer.get("price") == (None if is_fenced else "old")
