// memcached, the client that most Node programs use.

const assert = require("node:assert/strict");
const { promisify } = require("node:util");
const Memcached = require("memcached");

const [address, server] = process.argv.slice(2);
const [reader, writer] = [connect(), connect()];
const notStored = { message: /not stored/i };

async function main() {
  await reader.flush();
  assert.equal(await reader.get("name"), undefined);
  assert(await reader.set("name", "Ada", 0));
  assert.equal(await reader.get("name"), "Ada");
  await assert.rejects(reader.add("name", "Grace", 0), notStored);
  assert(await reader.add("other", "Grace", 0));
  assert(await reader.replace("name", "Eve", 0));
  await assert.rejects(reader.replace("missing", "Eve", 0), notStored);
  assert(await reader.append("name", "!"));
  assert(await reader.prepend("name", "<"));
  assert.equal(await reader.get("name"), "<Eve!");

  const before = await reader.gets("name");
  assert(await writer.set("name", "Mallory", 0));
  assert.equal(await reader.cas("name", "Ada", before.cas, 0), false);
  assert(await reader.cas("name", "Ada", (await reader.gets("name")).cas, 0));
  assert.equal(await reader.get("name"), "Ada");

  assert(await reader.set("number", 9, 0));
  assert.equal(await reader.incr("number", 3), 12);
  assert.equal(await reader.decr("number", 20), 0);
  assert.equal(await reader.incr("missing", 1), false);

  assert.equal(await reader.touch("number", 100), true);
  assert.equal(await reader.touch("missing", 100), false);
  assert.equal(await reader.touch("number", -1), true);
  assert.equal(await reader.get("number"), undefined);

  const keys = Array.from({ length: 101 }, (_, n) => `many${n}`);
  const values = Object.fromEntries(keys.slice(0, 100).map((key) => [key, key]));
  await Promise.all(Object.keys(values).map((key) => reader.set(key, key, 0)));
  assert.deepEqual(await reader.getMulti(keys), values);
  assert.equal(await reader.del("many7"), true);
  assert.equal(await reader.del("many7"), false);
  assert.equal(await reader.get("many7"), undefined);

  const large = Buffer.alloc(500_000, "0123456789abcdef\r\n");
  assert(await reader.set("large", large, 0));
  assert.deepEqual(await reader.get("large"), large);

  const [stats] = await reader.stats();
  assert(String(stats.version).startsWith("1.6.") && stats.curr_items > 0);
  await reader.flush();
  assert.equal(await reader.get("large"), undefined);

  // The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
  assert.equal(await reader.get("price"), undefined);
  await writer.del("price");
  const late = reader.set("price", "old", 0);
  await (server === "refusing" ? assert.rejects(late, notStored) : late);
  const expected = server === "plain" ? "old" : undefined;
  assert.equal(await reader.get("price"), expected);
  assert.equal(await writer.get("price"), expected);
  reader.end();
  writer.end();
}

// One connection, so that every request of a client uses the same one.
function connect() {
  const client = new Memcached(address, { poolSize: 1, retries: 0, timeout: 60_000, idle: 60_000 });
  const verbs = "add append cas decr del flush get getMulti gets incr prepend replace set stats touch";
  const promised = verbs.split(" ").map((verb) => [verb, promisify(client[verb]).bind(client)]);
  return { ...Object.fromEntries(promised), end: () => client.end() };
}

main();
