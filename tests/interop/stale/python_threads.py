"""The storm with clients for threads: python_threads.py <name> <address> <seconds> <reads>"""

import sys

import storm

name, address, *limits = sys.argv[1:]
host, port = address.split(":")
server = host, int(port)


class Cache:
    """A client whose `get` returns the version that was set, or None."""

    def __init__(self, client):
        self.client = client

    def get(self, key):
        found = self.client.get(key)
        return None if found is None else int(found)

    def set(self, key, version):
        self.client.set(key, str(version))

    def delete(self, key):
        self.client.delete(key)


def shared(client):
    """All threads share this client."""
    return lambda: Cache(client)


def pymemcache_client():
    from pymemcache.client.base import Client
    return lambda: Cache(Client(server, default_noreply=False))


def pymemcache_pooled_client():
    from pymemcache.client.base import PooledClient
    return shared(PooledClient(server, default_noreply=False))


def pymemcache_hash_client():
    from pymemcache.client.hash import HashClient
    return lambda: Cache(HashClient([server], default_noreply=False))


def pymemcache_hash_client_pooling():
    from pymemcache.client.hash import HashClient
    return shared(HashClient([server], default_noreply=False, use_pooling=True))


def python_memcached():
    import memcache
    # The client opens a connection for each thread itself.
    return shared(memcache.Client([address], socket_timeout=60))


def python_binary_memcached():
    import bmemcached
    # The client opens a connection for each thread itself.
    return shared(bmemcached.Client(address, socket_timeout=60))


class Reserving(Cache):
    """A pool of pylibmc: each call reserves a client, as its documentation shows."""

    def get(self, key):
        with self.client.reserve() as client:
            return Cache(client).get(key)

    def set(self, key, version):
        with self.client.reserve() as client:
            Cache(client).set(key, version)

    def delete(self, key):
        with self.client.reserve() as client:
            client.delete(key)


def pylibmc_thread_mapped_pool():
    import pylibmc
    pool = pylibmc.ThreadMappedPool(pylibmc.Client([address]))
    return lambda: Reserving(pool)


def pylibmc_binary():
    import pylibmc
    pool = pylibmc.ThreadMappedPool(pylibmc.Client([address], binary=True))
    return lambda: Reserving(pool)


def pylibmc_client_pool():
    import pylibmc
    pool = pylibmc.ClientPool(pylibmc.Client([address]), storm.READERS + storm.WRITERS)
    return lambda: Reserving(pool)


class Leasing(Cache):
    """meta-memcache as its documentation shows it: a miss takes a lease, whose token goes with the fill."""

    def __init__(self, client):
        from meta_memcache.configuration import LeasePolicy
        super().__init__(client)
        self.policy = LeasePolicy()
        self.token = None

    def get(self, key):
        found, self.token = self.client.get_or_lease_cas(key, self.policy)
        return found

    def set(self, key, version):
        self.client.set(key, version, ttl=60, cas_token=self.token)


def meta_memcache():
    from meta_memcache import CacheClient, ServerAddress, connection_pool_factory_builder
    pool = connection_pool_factory_builder(connection_timeout=60, recv_timeout=60)
    client = CacheClient.cache_client_from_servers([ServerAddress(*server)], pool)
    return lambda: Leasing(client)


def django():
    from django.conf import settings
    from django.core.cache import cache
    backend = "django.core.cache.backends.memcached.PyMemcacheCache"
    settings.configure(CACHES={"default": {"BACKEND": backend, "LOCATION": address}})
    # A proxy object with a separate client for each thread.
    return shared(cache)


class Region(Cache):
    """dogpile.cache, which stores the time with each value, so that no two values are equal."""

    def get(self, key):
        from dogpile.cache.api import NO_VALUE
        found = self.client.get(key)
        return None if found is NO_VALUE else found

    def set(self, key, version):
        self.client.set(key, version)


def dogpile():
    from dogpile.cache import make_region
    region = make_region().configure("dogpile.cache.pymemcache", arguments={"url": [server], "socket_timeout": 60})
    return lambda: Region(region)


def flask_caching():
    from flask import Flask
    from flask_caching import Cache as Flasks
    app = Flask(__name__)
    # Its pylibmc client is not thread-safe: servers that fork have one in each process.
    config = {"CACHE_TYPE": "MemcachedCache", "CACHE_MEMCACHED_SERVERS": [address]}

    def client():
        app.app_context().push()
        return Cache(Flasks(app, config=config))

    return client


CLIENTS = {
    client.__name__: client
    for client in [
        pymemcache_client, pymemcache_pooled_client, pymemcache_hash_client, pymemcache_hash_client_pooling,
        python_memcached, python_binary_memcached, pylibmc_thread_mapped_pool, pylibmc_binary, pylibmc_client_pool,
        meta_memcache, django, dogpile, flask_caching,
    ]
}
storm.threads(CLIENTS[name](), limits)
