"""pylibmc (ketama) and pymemcache (rendezvous) spread values over servers, and leasehold's own client finds them.

`rings.py <program> <server>…`: the program is the one that looks for them.
"""

import subprocess
import sys

import pylibmc
from pymemcache.client.hash import HashClient

program, *servers = sys.argv[1:]
values = {f"key:{n}": f"key:{n}" for n in range(1000)}


def found(ring):
    subprocess.run([program, ring, *servers], check=True)


ketama = pylibmc.Client(servers, behaviors={"ketama_weighted": True, "_poll_timeout": 60_000})
assert ketama.set_multi(values) == []
found("ketama")
ketama.flush_all()

rendezvous = HashClient([tuple(server.split(":")) for server in servers], default_noreply=False)
assert rendezvous.set_many(values) == []
found("rendezvous")
