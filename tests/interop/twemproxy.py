"""twemproxy (nutcracker) in front of two servers, for two clients.

The clients share one connection to each server. The servers run with their defaults.
"""

import socket
import subprocess
import sys
import tempfile
import time

from pymemcache.client.base import Client

folder = tempfile.TemporaryDirectory()
path = f"{folder.name}/socket"
servers = [Client(address) for address in sys.argv[1:3]]

CONFIGURATION = f"""
pool:
  listen: {path}
  hash: one_at_a_time
  distribution: modula
  timeout: 60000
  preconnect: true
  server_connections: 1
  servers:
    - {sys.argv[1]}:1
    - {sys.argv[2]}:1
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listening(proxy):
    while proxy.poll() is None:
        try:
            socket.socket(socket.AF_UNIX).connect(path)
            return True
        except OSError:
            time.sleep(0.01)
    return False


def check(reader, writer):
    assert reader.get("name") is None
    assert reader.set("name", "Ada") and reader.get("name") == b"Ada"
    assert not reader.add("name", "Grace") and reader.add("other", "Grace")
    assert reader.replace("name", "Eve") and not reader.replace("missing", "Eve")
    assert reader.append("name", "!") and reader.prepend("name", "<")
    assert reader.get("name") == b"<Eve!"

    value, unique = reader.gets("name")
    assert writer.set("name", "Mallory")
    assert reader.cas("name", "Ada", unique) is False
    value, unique = reader.gets("name")
    assert reader.cas("name", "Ada", unique) is True

    assert reader.set("number", "9")
    assert reader.incr("number", 3) == 12 and reader.decr("number", 20) == 0
    assert reader.incr("missing", 1) is None
    assert reader.touch("number", 100) and not reader.touch("missing", 100)
    # pymemcache refuses a negative time itself. Above 30 days the number is a date, this one in January 1970.
    assert reader.set("number", "9", expire=2_592_001) and reader.get("number") is None

    many = {f"many{n}": b"%d" % n for n in range(100)}
    assert reader.set_many(many) == []
    assert reader.get_many([*many, "many100"]) == many
    assert all(server.stats()[b"curr_items"] > 10 for server in servers), "each server has some of the keys"
    assert reader.delete("many7") and not reader.delete("many7") and reader.get("many7") is None

    large = bytes(range(256)) * 2000
    assert reader.set("large", large) and writer.get("large") == large

    # The reader misses and reads the row; a writer changes it and deletes the key; then the old row arrives.
    # The delete bypasses the proxy: on the shared connection it would count as the reader's own.
    assert reader.get("price") is None
    for server in servers:
        server.delete("price", noreply=False)
    assert reader.set("price", "old")
    assert reader.get("price") is None and writer.get("price") is None


with open(f"{folder.name}/configuration", "w") as file:
    file.write(CONFIGURATION)
arguments = ["-c", f"{folder.name}/configuration", "-a", "127.0.0.1", "-s", str(free_port()), "-o", "/dev/stderr"]
proxy = subprocess.Popen(["/usr/sbin/nutcracker", *arguments])
try:
    assert listening(proxy)
    check(*(Client(path, default_noreply=False, timeout=60) for _ in range(2)))
finally:
    proxy.terminate()
    proxy.wait()
