"""Django's cache, over pymemcache and over pylibmc: pickles, versions of keys, times that become dates."""

import sys

from django.conf import settings
from django.core.cache import caches

backend = "django.core.cache.backends.memcached."
libraries = {
    "PyMemcacheCache": {"timeout": 60, "connect_timeout": 60},
    "PyLibMCCache": {"behaviors": {"connect_timeout": 60_000, "_poll_timeout": 60_000}},
}
settings.configure(CACHES={
    library + role: {"BACKEND": backend + library, "LOCATION": sys.argv[1], "OPTIONS": options, "KEY_PREFIX": library}
    for library, options in libraries.items() for role in ["Reader", "Writer"]
} | {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}})

calls = []


def loaded():
    calls.append("database")
    return "Ada"


for library in libraries:
    reader, writer = caches[library + "Reader"], caches[library + "Writer"]

    reader.clear()
    assert reader.get("name") is None and reader.get("name", "missing") == "missing"
    reader.set("name", {"first": ["Ada", 1]})
    assert reader.get("name") == {"first": ["Ada", 1]} and "name" in reader
    assert not reader.add("name", "Grace") and reader.add("other", "Grace")
    reader.set("nothing", None)
    assert reader.get("nothing", "a miss") is None
    calls.clear()
    assert [reader.get_or_set("loaded", loaded) for _ in range(3)] == ["Ada"] * 3 and calls == ["database"]

    reader.set("number", 9)
    assert reader.incr("number", 3) == 12 and reader.decr("number", 20) == 0
    try:
        reader.incr("missing")
        raise AssertionError("incr of a missing key")
    except ValueError:
        pass
    reader.set("row", "first", version=1)
    assert reader.incr_version("row") == 2 and reader.get("row") is None and reader.get("row", version=2) == "first"

    # More than 30 days become a date. With 0 or a negative number the value expires at once.
    reader.set("name", "Ada", timeout=31 * 24 * 3600)
    assert reader.get("name") == "Ada" and reader.touch("name", 60) and not reader.touch("missing", 60)
    assert reader.touch("name", 0) and reader.get("name") is None
    for timeout in [0, -1]:
        reader.set("name", "Ada", timeout=timeout)
        assert reader.get("name") is None

    many = {f"many{n}": n for n in range(100)}
    assert reader.set_many(many) == [] and reader.get_many([*many, "many100"]) == many
    assert reader.delete("many7") and not reader.delete("many7") and reader.get("many7") is None
    reader.delete_many(many)
    assert reader.get_many(many) == {}

    large = bytes(range(256)) * 2000
    reader.set("large", large)
    assert reader.get("large") == large
    # A value that is too large must not leave the old one behind.
    try:
        reader.set("large", large * 4)
    except Exception as error:
        assert library == "PyLibMCCache" or "too large" in str(error), error
    reader.delete("large")
    # Django closes the connection at the end of every request; the client reconnects.
    reader.close()
    reader.set("name", "Ada")
    assert reader.get("name") == writer.get("name") == "Ada"

    # The reader misses and reads the row; the writer changes it and deletes the key; then the old row
    # arrives. Django does not report whether a set has stored: if the client reports a failure, Django
    # deletes the key.
    assert reader.get("price") is None
    writer.delete("price")
    reader.set("price", "old")
    assert reader.get("price") == writer.get("price") == ("old" if sys.argv[2] == "plain" else None)
