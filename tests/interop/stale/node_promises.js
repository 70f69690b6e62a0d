// The storm with clients for Node: node_promises.js <name> <address> <seconds> <reads>

const { promisify } = require("node:util");

const KEYS = 20;
const READERS = 8;
const WRITERS = 2;
const DELETES_PER_SECOND = 400;

const [name, address, seconds, reads] = process.argv.slice(2);

// Each returns `set`, `del`, and `get`, which returns a version or undefined.
const CLIENTS = {
  // Ten connections by default.
  memcached() {
    const Memcached = require("memcached");
    const client = new Memcached(address, { retries: 0, timeout: 60_000 });
    const [get, set, del] = ["get", "set", "del"].map((verb) => promisify(client[verb]).bind(client));
    return { get, set: (key, version) => set(key, String(version), 0), del };
  },
  // One connection by default, on which requests are pipelined.
  "memcache-client": (maxConnections = 1) => {
    const { MemcacheClient } = require("memcache-client");
    const client = new MemcacheClient({ server: { server: address, maxConnections }, cmdTimeout: 60_000 });
    return {
      get: async (key) => (await client.get(key))?.value,
      set: (key, version) => client.set(key, String(version)),
      del: (key) => client.delete(key).catch(expect("NOT_FOUND")),
    };
  },
  "memcache-client-pool": () => CLIENTS["memcache-client"](10),
  // One connection by default.
  "memcache-plus"() {
    const MemcachePlus = require("memcache-plus");
    const client = new MemcachePlus({ hosts: [address] });
    return {
      get: async (key) => (await client.get(key)) ?? undefined,
      set: (key, version) => client.set(key, String(version)),
      del: (key) => client.delete(key),
    };
  },
  // The binary protocol, over one connection, on which requests are pipelined.
  memjs() {
    const { Client } = require("memjs");
    const client = Client.create(address, { timeout: 60, retries: 1 });
    return {
      get: async (key) => (await client.get(key)).value ?? undefined,
      set: (key, version) => client.set(key, String(version), {}),
      del: (key) => client.delete(key),
    };
  },
};

const expect = (message) => (error) => {
  if (error.message !== message) throw error;
};
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const between = (least, most) => least + Math.random() * (most - least);
const anyKey = () => Math.floor(Math.random() * KEYS);

// For each key, the committed version and the newest one whose delete was answered.
const committed = Array(KEYS).fill(0);
const answered = Array(KEYS).fill(0);
const count = { reads: 0, hits: 0, stale: 0, loads: 0, deletes: 0 };
const end = performance.now() + seconds * 1000;
let areReadersDone = false;

async function read(cache) {
  for (let nth = 0; nth < Math.floor(reads / READERS) && performance.now() < end; nth++) {
    const number = anyKey();
    const newest = answered[number];
    const found = await cache.get(`product:${number}`);
    count.reads++;
    if (found === undefined) {
      count.loads++;
      const load = between(1, 10);
      const moment = between(0, load);
      await sleep(moment);
      const version = committed[number];
      await sleep(load - moment);
      await cache.set(`product:${number}`, version);
    } else {
      count.hits++;
      if (Number(found) < newest) count.stale++;
    }
    await sleep(between(0, 1));
  }
}

async function write(cache) {
  let due = performance.now();
  while (!areReadersDone) {
    const number = anyKey();
    const version = ++committed[number];
    await cache.del(`product:${number}`);
    answered[number] = Math.max(answered[number], version);
    count.deletes++;
    due = Math.max(due + (1000 * WRITERS) / DELETES_PER_SECOND, performance.now());
    await sleep(due - performance.now());
  }
}

async function main() {
  const cache = CLIENTS[name]();
  const writers = Array.from({ length: WRITERS }, () => write(cache));
  await Promise.all(Array.from({ length: READERS }, () => read(cache)));
  areReadersDone = true;
  await Promise.all(writers);
  console.log(Object.entries(count).map((entry) => entry.join("=")).join(" "));
  process.exit();
}

main();
