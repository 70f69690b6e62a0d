// memcached, the client that most Node programs use.

const assert = require("node:assert/strict");
const { promisify } = require("node:util");
const Memcached = require("memcached");

const [address, server] = process.argv.slice(2);
// One socket each: an implicit lease belongs to the connection that missed.
const [reader, writer] = [1, 2].map(() => new Memcached(address, { poolSize: 1, retries: 0 }));
const on = (client, verb) => promisify(client[verb]).bind(client);
const [get, gets, getMulti, set, cas] = ["get", "gets", "getMulti", "set", "cas"].map((verb) => on(reader, verb));
const [add, replace, append, prepend] = ["add", "replace", "append", "prepend"].map((verb) => on(reader, verb));
const [incr, decr, touch, del, flush] = ["incr", "decr", "touch", "del", "flush"].map((verb) => on(reader, verb));
const stored = { message: /not stored/i };

async function main() {
  await flush();
  assert.equal(await get("name"), undefined);
  assert(await set("name", "Ada", 0));
  assert.equal(await get("name"), "Ada");
  await assert.rejects(add("name", "Grace", 0), stored);
  assert(await add("other", "Grace", 0));
  assert(await replace("name", "Eve", 0));
  await assert.rejects(replace("nobody", "Eve", 0), stored);
  assert(await append("name", "!"));
  assert(await prepend("name", "<"));
  assert.equal(await get("name"), "<Eve!");

  const before = await gets("name");
  assert(await on(writer, "set")("name", "Mallory", 0));
  assert.equal(await cas("name", "Ada", before.cas, 0), false);
  assert(await cas("name", "Ada", (await gets("name")).cas, 0));
  assert.equal(await get("name"), "Ada");

  assert(await set("number", 9, 0));
  assert.equal(await incr("number", 3), 12);
  assert.equal(await decr("number", 20), 0);
  assert.equal(await incr("nobody", 1), false);

  assert.equal(await touch("number", 100), true);
  assert.equal(await touch("nobody", 100), false);
  assert.equal(await touch("number", -1), true);
  assert.equal(await get("number"), undefined);

  const keys = Array.from({ length: 101 }, (_, n) => `many${n}`);
  await Promise.all(keys.slice(0, 100).map((key) => set(key, key, 0)));
  assert.deepEqual(await getMulti(keys), Object.fromEntries(keys.slice(0, 100).map((key) => [key, key])));
  assert.equal(await del("many7"), true);
  assert.equal(await del("many7"), false);
  assert.equal(await get("many7"), undefined);

  const large = Buffer.alloc(500_000, "0123456789abcdef\r\n");
  assert(await set("large", large, 0));
  assert.deepEqual(await get("large"), large);

  const [stats] = await on(reader, "stats")();
  assert(String(stats.version).startsWith("1.6.") && stats.curr_items > 0);
  await flush();
  assert.equal(await get("large"), undefined);

  // The reader misses and reads the old row, the writer changes the row and deletes the key, and the old row arrives.
  assert.equal(await get("price"), undefined);
  await on(writer, "del")("price");
  assert(await set("price", "old", 0));
  const expected = server === "fenced" ? undefined : "old";
  assert.equal(await get("price"), expected);
  assert.equal(await on(writer, "get")("price"), expected);
  reader.end();
  writer.end();
}

main();
