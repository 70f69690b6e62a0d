"""Flask-Caching over pylibmc: cached views and functions, which can be invalidated."""

import sys

from flask import Flask
from flask_caching import Cache

config = {"CACHE_TYPE": "MemcachedCache", "CACHE_MEMCACHED_SERVERS": [sys.argv[1]], "CACHE_DEFAULT_TIMEOUT": 60}
app = Flask(__name__)
reader, writer = (Cache(app, config=config | {"CACHE_KEY_PREFIX": "flask"}) for _ in range(2))
calls = []


@app.route("/rows/<name>")
@reader.cached(query_string=True)
def row(name):
    calls.append(name)
    return f"row {name}"


@reader.memoize()
def square(n):
    calls.append(n)
    return n * n


with app.test_request_context():
    reader.clear()
    assert reader.get("name") is None
    assert reader.set("name", {"first": ["Ada", 1]})
    assert reader.get("name") == {"first": ["Ada", 1]} and reader.has("name")
    assert not reader.add("name", "Grace") and reader.add("other", "Grace")
    many = {f"many{n}": n for n in range(100)}
    reader.set_many(many)
    assert reader.get_dict(*many, "many100") == many | {"many100": None}
    assert reader.delete("many7") and not reader.delete("many7")
    reader.delete_many(*many)
    assert reader.get_many(*many) == [None] * 100
    large = bytes(range(256)) * 2000
    assert reader.set("large", large) and reader.get("large") == large

    assert [square(7), square(7), square(8)] == [49, 49, 64] and calls == [7, 8]
    reader.delete_memoized(square, 7)
    assert [square(7), square(8)] == [49, 64] and calls == [7, 8, 7]
    # A new version of the function's name makes all of its cached results unreachable.
    reader.delete_memoized(square)
    assert [square(7), square(8)] == [49, 64] and calls == [7, 8, 7, 7, 8]

    # The reader misses and reads the row; the writer changes it and deletes the key; then the old row
    # arrives.
    assert reader.get("price") is None
    writer.delete("price")
    assert bool(reader.set("price", "old")) == (sys.argv[2] != "refusing")
    assert reader.get("price") == writer.get("price") == ("old" if sys.argv[2] == "plain" else None)

calls.clear()
browser = app.test_client()
assert [browser.get(f"/rows/{name}").text for name in "aab"] == ["row a", "row a", "row b"] and calls == ["a", "b"]
