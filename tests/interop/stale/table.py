"""The table "Is my client safe?": each client runs the storm with leasehold and with memcached.

The two run at the same time. Prints a row of Markdown for each client. Exits with 1 if a client reads a stale value from leasehold, or fails.
`run` installs the requirements and sets the variables LEASEHOLD, INTEROP_WORK, DALLI and SPYMEMCACHED.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from servers import Servers

WORK = Path(os.environ["INTEROP_WORK"])
BEGIN, END = "<!-- stale:begin -->\n", "<!-- stale:end -->\n"
HEAD = """\
| client | its connections | stale reads with leasehold | stale reads with memcached | loads, compared | hits, both |
|---|---|---|---|---|---|
"""
# The time limit of a storm that is limited by reads, in case something hangs.
SECONDS_MAX = 600


@dataclass
class Storm:
    client: str
    connections: str
    command: list
    is_proxied: bool = False
    # Additional options of leasehold.
    options: tuple = ()


def threads(client, connections, name, **options):
    return Storm(f"Python {client}", connections, [sys.executable, HERE / "python_threads.py", name], **options)


def tasks(client, connections):
    return Storm(f"Python {client}", connections, [sys.executable, HERE / "python_tasks.py", client])


def node(client, connections, name=None):
    return Storm(f"Node {client}", connections, ["node", HERE / "node_promises.js", name or client])


def go(readers):
    command = [WORK / "stale_gomemcache", str(readers)]
    return Storm(f"Go gomemcache, {readers} goroutines", "pool that keeps 2", command)


def java(client, name):
    command = ["java", "-cp", f"{os.environ['SPYMEMCACHED']}:{WORK / 'java'}", "Storm", name]
    return Storm(f"Java spymemcached, {client}", "shared", command)


def perl(module):
    return Storm(f"Perl {module}", "one per process", ["/usr/bin/perl", HERE / "perl_processes.pl", module])


def php(client, protocol):
    return Storm(f"PHP Memcached, {client}", "one per process", ["php", HERE / "php_processes.php", protocol])


def ruby(client, connections, name, **options):
    command = ["ruby", "-I", os.environ["DALLI"], HERE / "ruby_threads.rb", name]
    return Storm(f"Ruby {client}", connections, command, **options)


def rust(client, connections, name):
    return Storm(f"Rust {client}", connections, [WORK / "rust/debug/stale", name])


STORMS = [
    go(8),
    go(64),
    java("writers with the same client", "same"),
    java("writers with another client", "other"),
    java("binary, writers with another client", "binary"),
    node("memcache-client", "shared"),
    node("memcache-client, `maxConnections: 10`", "pool", "memcache-client-pool"),
    node("memcache-plus", "shared"),
    node("memcached", "pool of 10"),
    node("memjs (binary)", "shared", "memjs"),
    perl("Cache::Memcached"),
    perl("Cache::Memcached::Fast"),
    php("persistent", "text"),
    php("persistent, binary", "binary"),
    tasks("aiomcache", "pool of 2"),
    threads("Django over pymemcache", "one per thread", "django"),
    threads("dogpile.cache over pymemcache", "one per thread", "dogpile"),
    tasks("emcache", "pool of 2"),
    threads("Flask-Caching over pylibmc", "one per thread", "flask_caching"),
    threads("meta-memcache, `get_or_lease_cas`", "pool", "meta_memcache"),
    threads("pylibmc `ClientPool`", "pool", "pylibmc_client_pool"),
    threads("pylibmc `ThreadMappedPool`", "one per thread", "pylibmc_thread_mapped_pool"),
    threads("pylibmc `ThreadMappedPool`, `binary=True`", "one per thread", "pylibmc_binary"),
    threads("pymemcache `Client`", "one per thread", "pymemcache_client"),
    threads("pymemcache `HashClient`", "one per thread", "pymemcache_hash_client"),
    threads("pymemcache `HashClient`, `use_pooling`", "pool", "pymemcache_hash_client_pooling"),
    threads("pymemcache `PooledClient`", "pool", "pymemcache_pooled_client"),
    threads("pymemcache `Client` behind twemproxy", "proxy", "pymemcache_client", is_proxied=True),
    threads("python-binary-memcached (binary)", "one per thread", "python_binary_memcached"),
    threads("python-memcached", "one per thread", "python_memcached"),
    ruby("dalli", "shared", "shared"),
    ruby("dalli in a connection_pool", "pool", "pool"),
    ruby("dalli in a connection_pool, binary", "pool", "binary"),
    rust("async-memcached", "one per task", "async-memcached"),
    rust("leasehold's client, `get` and `set`", "shared", "leasehold"),
    rust("memcache (binary)", "pool", "memcache"),
    rust("memcache, `protocol=ascii`", "pool", "memcache-text"),
]


def counts(storm, server, limits):
    """Runs the storm with one kind of server. Returns its counts by name, or its output if it failed."""
    with Servers() as servers:
        options = storm.options if server == "leasehold" else ()
        address = servers.start(server, *options)
        if storm.is_proxied:
            address = servers.start_twemproxy(address, servers.start(server, *options))
        try:
            output = subprocess.run(
                [*storm.command, address, *limits], timeout=SECONDS_MAX + 60, check=True, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ).stdout
        except subprocess.SubprocessError as failure:
            return f"{failure}\n{failure.stdout}"
    found = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", output)}
    return found if found.get("reads") and found.get("deletes") else f"no counts: {output}"


def row(storm, ours, theirs):
    loads = ours["loads"] / ours["reads"] / (theirs["loads"] / theirs["reads"])
    hits = " %, ".join(f"{100 * each['hits'] / each['reads']:.0f}" for each in [ours, theirs])
    cells = [storm.client, storm.connections, share(ours), share(theirs), f"× {loads:.2f}", f"{hits} %"]
    return f"| {' | '.join(cells)} |"


def share(found):
    stale, reads = found["stale"], found["reads"]
    return f"{stale:,} of {reads:,}" + (f" ({100 * stale / reads:.1f} %)" if stale else "")


def replace_table(path, table):
    before, _, rest = Path(path).read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{path}: no line {BEGIN.strip()} before a line {END.strip()}")
    Path(path).write_text(before + BEGIN + table + end + after)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--seconds", type=float, default=2, help="how long each storm lasts (2)")
    limit.add_argument("--reads", type=int, help="how many reads each storm has, instead")
    parser.add_argument("--only", metavar="TEXT", default="", help="only clients whose name contains this")
    parser.add_argument("--write", metavar="FILE", help=f"put the table between {BEGIN.strip()} and {END.strip()}")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write needs all clients, without --only")
    return arguments


def main():
    arguments = parsed()
    limits = [str(SECONDS_MAX), str(arguments.reads)] if arguments.reads else [str(arguments.seconds), str(10**9)]
    rows, unsafe, failed, never_stale = [], [], [], []
    print(HEAD, end="", flush=True)
    for storm in STORMS:
        if arguments.only not in storm.client:
            continue
        with ThreadPoolExecutor() as both:
            ours, theirs = both.map(lambda server: counts(storm, server, limits), ["leasehold", "memcached"])
        if failures := [each for each in [ours, theirs] if isinstance(each, str)]:
            failed.append(storm.client)
            print(f"FAILED  {storm.client}", *failures, sep="\n", flush=True)
            continue
        rows.append(row(storm, ours, theirs))
        print(rows[-1], flush=True)
        if ours["stale"]:
            unsafe.append(storm.client)
        if not theirs["stale"]:
            never_stale.append(storm.client)
    summary = {
        "Stale values from leasehold": unsafe,
        "Failed": failed,
        "No stale value from memcached (no storm, or a client that protects itself)": never_stale,
    }
    for heading, clients in summary.items():
        if clients:
            print(f"{heading}: {'; '.join(clients)}")
    if arguments.write and not failed:
        replace_table(arguments.write, HEAD + "".join(f"{row}\n" for row in rows))
    return 1 if unsafe or failed else 0


sys.exit(main())
