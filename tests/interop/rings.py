"""pylibmc (ketama) and pymemcache (rendezvous) distribute values over servers; leasehold's client finds them.

`rings.py <program> <server>…`: the program uses leasehold's client to read the values.
"""

import subprocess
import sys

import pylibmc
from pymemcache.client.hash import HashClient

program, *servers = sys.argv[1:]
values = {f"key:{n}": f"key:{n}" for n in range(1000)}


def read_back(ring):
    subprocess.run([program, ring, *servers], check=True)


ketama = pylibmc.Client(servers, behaviors={"ketama_weighted": True, "_poll_timeout": 60_000})
assert ketama.set_multi(values) == []
read_back("ketama")
ketama.flush_all()

rendezvous = HashClient([tuple(server.split(":")) for server in servers], default_noreply=False)
assert rendezvous.set_many(values) == []
read_back("rendezvous")
