"""The storm, for clients in Python: readers load the rows that they miss, and writers commit and then delete.

`threads` and `tasks` run it, and print its counts. A client is an object with `get(key)`, which returns a version or
None, `set(key, version)`, and `delete(key)`, which returns once the server has answered.
"""

import asyncio
import threading
import time
from dataclasses import astuple, dataclass
from random import randrange, uniform

KEYS = 20
READERS = 8
WRITERS = 2
DELETES_PER_SECOND = 400
LOAD_SECONDS = 0.001, 0.010
# The pause between two reads of a reader, so that the machine is not the limit.
PAUSE_SECONDS = 0, 0.001


class Database:
    """For each key, the committed version and the newest one whose delete was answered."""

    def __init__(self):
        self.committed = [0] * KEYS
        self.answered = [0] * KEYS
        self.lock = threading.Lock()

    def commit(self, number):
        with self.lock:
            self.committed[number] += 1
            return self.committed[number]

    def confirm(self, number, version):
        with self.lock:
            self.answered[number] = max(self.answered[number], version)


@dataclass
class Count:
    reads: int = 0
    hits: int = 0
    stale: int = 0
    loads: int = 0
    deletes: int = 0


class Storm:
    """State shared by the readers and writers of one storm, which ends after `seconds` or `reads`."""

    def __init__(self, seconds, reads):
        self.database = Database()
        self.counts = []
        self.end = time.monotonic() + seconds
        self.reads_each = reads // READERS
        self.are_readers_done = False

    def count(self):
        self.counts.append(Count())
        return self.counts[-1]

    def continues(self, count):
        return count.reads < self.reads_each and time.monotonic() < self.end

    def read(self, cache):
        """One reader, in steps: yields how long to sleep."""
        count = self.count()
        while self.continues(count):
            number = randrange(KEYS)
            answered = self.database.answered[number]
            version = yield cache.get, f"product:{number}"
            count.reads += 1
            if version is None:
                count.loads += 1
                load = uniform(*LOAD_SECONDS)
                moment = uniform(0, load)
                yield moment
                version = self.database.committed[number]
                yield load - moment
                yield cache.set, f"product:{number}", version
            else:
                count.hits += 1
                count.stale += version < answered
            yield uniform(*PAUSE_SECONDS)

    def write(self, cache):
        """One writer, in steps like those of `read`."""
        count = self.count()
        due = time.monotonic()
        while not self.are_readers_done:
            number = randrange(KEYS)
            version = self.database.commit(number)
            yield cache.delete, f"product:{number}"
            self.database.confirm(number, version)
            count.deletes += 1
            due = max(due + WRITERS / DELETES_PER_SECOND, time.monotonic())
            yield due - time.monotonic()

    def report(self):
        reads, hits, stale, loads, deletes = map(sum, zip(*map(astuple, self.counts)))
        print(f"{reads=} {hits=} {stale=} {loads=} {deletes=}")


def threads(client, arguments):
    """Runs a thread for each reader and writer. Each calls `client()` for its client."""
    storm = Storm(float(arguments[0]), int(arguments[1]))
    failures = []

    def run(steps):
        cache = client()
        steps = steps(cache)
        answer = None
        try:
            while True:
                match steps.send(answer):
                    case (verb, *parameters):
                        answer = verb(*parameters)
                    case pause:
                        answer = time.sleep(max(pause, 0))
        except StopIteration:
            pass
        except BaseException as failure:
            failures.append(failure)
            storm.end = 0

    readers = [threading.Thread(target=run, args=[storm.read]) for _ in range(READERS)]
    writers = [threading.Thread(target=run, args=[storm.write]) for _ in range(WRITERS)]
    for thread in readers + writers:
        thread.start()
    for thread in readers:
        thread.join()
    storm.are_readers_done = True
    for thread in writers:
        thread.join()
    if failures:
        raise failures[0]
    storm.report()


async def tasks(cache, arguments):
    """Runs a task for each reader and writer, all with one client."""
    storm = Storm(float(arguments[0]), int(arguments[1]))

    async def run(steps):
        answer = None
        try:
            while True:
                match steps.send(answer):
                    case (verb, *parameters):
                        answer = await verb(*parameters)
                    case pause:
                        answer = await asyncio.sleep(max(pause, 0))
        except StopIteration:
            pass

    writers = [asyncio.create_task(run(storm.write(cache))) for _ in range(WRITERS)]
    await asyncio.gather(*(run(storm.read(cache)) for _ in range(READERS)))
    storm.are_readers_done = True
    await asyncio.gather(*writers)
    storm.report()
