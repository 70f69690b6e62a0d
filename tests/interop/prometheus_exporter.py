"""Replays the requests of prometheus/memcached_exporter, and reads the answers as it does.

Debian 12 has no package of the exporter. It leaves out the metrics of absent statistics. If it cannot read one, it reports that the server is down.
"""

import socket
import sys

COUNTED = """
    uptime time cas_badval cmd_flush cmd_set bytes limit_maxbytes curr_items total_items bytes_read bytes_written
    curr_connections total_connections rejected_connections conn_yields listen_disabled_num evictions reclaimed
    store_too_large store_no_memory accepting_conns
""".split()
for verb in ["get", "delete", "incr", "decr", "cas", "touch"]:
    COUNTED += [f"{verb}_hits", f"{verb}_misses"]
# Statistics of slabs, the LRU and its crawler, none of which leasehold has.
FOREIGN = """
    lru_crawler_starts direct_reclaims crawler_items_checked crawler_reclaimed moves_to_cold moves_to_warm
    moves_within_lru total_malloced
""".split()

host, port = sys.argv[1].split(":")
connection = socket.create_connection((host, int(port)), timeout=60)
answers = connection.makefile("rb")


def stats(of=""):
    connection.sendall(f"stats{of}\r\n".encode())
    found = {}
    while (line := answers.readline()) != b"END\r\n":
        head, name, value = line.decode().removesuffix("\r\n").split(" ", 2)
        assert head == "STAT", line
        found[name] = value
    return found


general = stats()
assert general["version"].startswith("1.6.")
for name in COUNTED:
    float(general[name])
for name in FOREIGN:
    float(general.get(name, 0))
for name in ["rusage_user", "rusage_system"]:
    seconds, microseconds = general[name].split(".")
    assert len(microseconds) == 6 and int(seconds) >= 0
assert float(general["cmd_set"]) >= sum(float(general[f"cas_{end}"]) for end in ["hits", "misses", "badval"])

# Statistics by class are `items:<class>:<name>` and `<class>:<name>`; others are totals.
for name, value in stats(" items").items():
    assert name.startswith("items:") and name.count(":") == 2 and float(value) >= 0
for name, value in stats(" slabs").items():
    float(value)

settings = stats(" settings")
assert float(settings["maxconns"]) > 0
assert settings.get("lru_crawler", "no") in ["yes", "no"]
