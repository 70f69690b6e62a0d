"""pymemcache during real handovers: no failed operation, no lost item, no stale value.

The client reconnects and retries.
`python_handover.py <program> <folder>`: the server program, and the folder for its items. Prints the longest gap.
"""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Semaphore

from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheUnexpectedCloseError

HANDOVERS = 5
OPERATIONS_BETWEEN = 500
THREADS = 4
KEYS = 50
PATIENCE_SECONDS = 60
program, folder = sys.argv[1:]
items = Path(folder) / "handover-items"
is_done, operations = Event(), Semaphore(0)


def start(*words):
    """Starts a server, and waits until it serves. Returns the process and its address."""
    # The clients use the cache as a store, so a set after a miss must succeed.
    flags = ["-p", "-1", "-m", "16", "-e", items, "--implicit-leases", "off"]
    process = subprocess.Popen([program, *words, *flags], stderr=subprocess.PIPE, text=True)
    address = None
    for line in process.stderr:
        found = re.search(r"listening on (127\.0\.0\.1):(\d+)", line)
        address = (found[1], int(found[2])) if found else address
        if "has handed over" in line or (not words and "leasehold 0" in line):
            return process, address
    sys.exit("the server does not start")


def retry(client, request):
    """Repeats a request until the server answers. Returns the answer, and how long it took."""
    since = time.monotonic()
    while True:
        try:
            return request(client), time.monotonic() - since
        except (ConnectionError, MemcacheUnexpectedCloseError):
            client.close()
            assert time.monotonic() - since < PATIENCE_SECONDS, "no server answers"


def wait_for_operations():
    """Waits until the clients have done some more operations."""
    for _ in range(OPERATIONS_BETWEEN):
        assert operations.acquire(timeout=PATIENCE_SECONDS), "the clients make no progress"


def work(number):
    """Stores, reads and deletes keys of its own. Returns the longest time of an operation, and their number."""
    client = Client(address, default_noreply=False, timeout=PATIENCE_SECONDS)
    expected, longest, count = [None] * KEYS, 0, 0
    while not is_done.is_set():
        count += 1
        place = count * 7 % KEYS
        key, value = f"{number}:{place}", b"value %d of %d" % (count, number)
        found, took = retry(client, lambda client: client.get(key))
        assert found == expected[place], (key, found, expected[place])
        if count % 3 == 0:
            # After a retry the answer does not show whether the key existed.
            _, changed = retry(client, lambda client: client.delete(key))
            expected[place] = None
        else:
            stored, changed = retry(client, lambda client: client.set(key, value))
            assert stored
            expected[place] = value
        longest = max(longest, took, changed)
        operations.release()
    return longest, count


former, address = start()
try:
    with ThreadPoolExecutor(THREADS) as threads:
        workers = [threads.submit(work, number) for number in range(THREADS)]
        try:
            for _ in range(HANDOVERS):
                wait_for_operations()
                following, _ = start("handover")
                assert former.wait(PATIENCE_SECONDS) == 0
                former = following
            wait_for_operations()
        finally:
            is_done.set()
            results = [worker.result() for worker in workers]
finally:
    former.terminate()
    assert former.wait(PATIENCE_SECONDS) == 0
    for end in ["", ".leasehold-lock"]:
        Path(f"{items}{end}").unlink(missing_ok=True)
longest, count = max(longest for longest, _ in results), sum(count for _, count in results)
print(f"{count} operations, {HANDOVERS} handovers; the longest gap {longest * 1000:.0f} ms")
