"""meta-memcache, which uses meta commands only: modes, leases, renewals and stale copies by its own policies.

It reads only uniques of 32 bits, and ignores longer ones, as all of leasehold's are: it then stores without a unique.
A lease leaves a miss behind, so the fence still protects the key; a change by another client in between is not detected.
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

for key in ["name", "other", "missing", "number", "large", "leased", "renewed", "stale", "price", "fälle"]:
    reader.invalidate(key)

assert reader.get("name") is None
assert reader.set("name", "Ada", ttl=60) and reader.get("name") == "Ada"
assert reader.set("name", {"first": ["Ada", 1]}, ttl=60) and reader.get("name") == {"first": ["Ada", 1]}
assert not reader.set("name", "Grace", ttl=60, set_mode=SetMode.ADD)
assert reader.refill("other", "Grace", ttl=60) and not reader.refill("other", "Eve", ttl=60)
assert not reader.set("missing", "Eve", ttl=60, set_mode=SetMode.REPLACE)
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
assert reader.delta_and_get("missing", 1) is None

assert reader.touch("name", ttl=100) and not reader.touch("missing", ttl=100)
# A key that is not ASCII is sent in base64.
assert reader.set("fälle", "Ada", ttl=60) and writer.get("fälle") == "Ada"
assert writer.delete("fälle") and not writer.delete("fälle") and reader.get("fälle") is None

for n in range(100):
    reader.set(f"many{n}", n, ttl=60, no_reply=True)
found = reader.multi_get([f"many{n}" for n in range(101)])
assert {key.key: value for key, value in found.items()} == {f"many{n}": n if n < 100 else None for n in range(101)}

large = bytes(range(256)) * 2000
assert reader.set("large", large, ttl=60) and reader.get("large") == large

# One client wins the lease, the other gets no value; the token stores once.
value, token = reader.get_or_lease_cas("leased", lease)
assert value is None
assert writer.get_or_lease("leased", lease) is None
assert reader.set("leased", "Ada", ttl=60, cas_token=token)
assert writer.get_or_lease("leased", lease) == "Ada"

# One client renews a value that is about to expire, the other continues to read it.
assert reader.set("renewed", "old", ttl=20)
value, token = reader.get_cas("renewed", recache_policy=RecachePolicy(ttl=30))
assert value is None
assert writer.get("renewed", recache_policy=RecachePolicy(ttl=30)) == "old"
assert reader.set("renewed", "new", ttl=60, cas_token=token)
assert writer.get("renewed", recache_policy=RecachePolicy(ttl=30)) == "new"

# One client reloads a stale value, the other reads the stale copy until then.
assert reader.set("stale", "old", ttl=60)
assert writer.delete("stale", stale_policy=StalePolicy(mark_stale_on_deletion_ttl=30))
value, token = reader.get_cas("stale")
assert value is None
assert writer.get("stale") == "old"
assert reader.set("stale", "new", ttl=60, cas_token=token) and writer.get("stale") == "new"

# The reader has a lease and loads the row; the writer changes it and deletes the key; then the old row
# arrives.
value, token = reader.get_or_lease_cas("price", lease)
writer.delete("price")
assert not reader.set("price", "old", ttl=60, cas_token=token) and writer.get("price") is None

# The same without a lease: only a fence can refuse the old row.
assert reader.get("price") is None
writer.delete("price")
assert reader.set("price", "old", ttl=60) != is_fenced
assert writer.get("price") == (None if is_fenced else "old")
