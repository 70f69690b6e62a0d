// memcache-client, a maintained Node client.

const assert = require("node:assert/strict");
const { MemcacheClient } = require("memcache-client");

const [address, server] = process.argv.slice(2);
// One connection for each client, so that every request of a client uses the same one.
const options = { server: { server: address, maxConnections: 1 }, cmdTimeout: 60_000 };
const [reader, writer] = [new MemcacheClient(options), new MemcacheClient(options)];
const value = async (client, key) => (await client.get(key))?.value;

async function main() {
  await reader.cmd("flush_all");
  assert.equal(await value(reader, "name"), undefined);
  assert.deepEqual(await reader.set("name", "Ada"), ["STORED"]);
  assert.equal(await value(reader, "name"), "Ada");
  await assert.rejects(reader.add("name", "Grace"), { message: "NOT_STORED" });
  assert.deepEqual(await reader.add("other", "Grace"), ["STORED"]);
  assert.deepEqual(await reader.replace("name", "Eve"), ["STORED"]);
  await assert.rejects(reader.replace("missing", "Eve"), { message: "NOT_STORED" });
  assert.deepEqual(await reader.append("name", "!"), ["STORED"]);
  assert.deepEqual(await reader.prepend("name", "<"), ["STORED"]);
  assert.equal(await value(reader, "name"), "<Eve!");

  const before = await reader.gets("name");
  assert.deepEqual(await writer.set("name", "Mallory"), ["STORED"]);
  await assert.rejects(reader.cas("name", "Ada", { casUniq: before.casUniq }), { message: "EXISTS" });
  const { casUniq } = await reader.gets("name");
  assert.deepEqual(await reader.cas("name", "Ada", { casUniq }), ["STORED"]);
  assert.equal(await value(reader, "name"), "Ada");

  assert.deepEqual(await reader.set("number", "9"), ["STORED"]);
  assert.equal(await reader.incr("number", 3), "12");
  assert.equal(await reader.decr("number", 20), "0");
  await assert.rejects(reader.incr("missing", 1), { message: "NOT_FOUND" });

  assert.deepEqual(await reader.touch("number", 100), ["TOUCHED"]);
  await assert.rejects(reader.touch("missing", 100), { message: "NOT_FOUND" });
  assert.deepEqual(await reader.touch("number", -1), ["TOUCHED"]);
  assert.equal(await value(reader, "number"), undefined);

  const keys = Array.from({ length: 101 }, (_, n) => `many${n}`);
  await Promise.all(keys.slice(0, 100).map((key) => reader.set(key, key)));
  const found = Object.entries(await reader.get(keys)).map(([key, { value }]) => [key, value]);
  assert.deepEqual(found, keys.slice(0, 100).map((key) => [key, key]));
  assert.deepEqual(await reader.delete("many7"), ["DELETED"]);
  await assert.rejects(reader.delete("many7"), { message: "NOT_FOUND" });
  assert.equal(await value(reader, "many7"), undefined);

  const large = Buffer.alloc(500_000, "0123456789abcdef\r\n");
  assert.deepEqual(await reader.set("large", large), ["STORED"]);
  assert.deepEqual(await value(reader, "large"), large);

  assert.match((await reader.version()).join(" "), /^VERSION 1\.6\./);
  const { STAT } = await reader.cmd("stats");
  assert(STAT.some(([name, count]) => name === "curr_items" && count > 0));
  await reader.cmd("flush_all");
  assert.equal(await value(reader, "large"), undefined);

  // The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
  assert.equal(await value(reader, "price"), undefined);
  await writer.delete("price").catch((error) => assert.equal(error.message, "NOT_FOUND"));
  const late = reader.set("price", "old");
  await (server === "refusing" ? assert.rejects(late, { message: "NOT_STORED" }) : late);
  const expected = server === "plain" ? "old" : undefined;
  assert.equal(await value(reader, "price"), expected);
  assert.equal(await value(writer, "price"), expected);
  reader.shutdown();
  writer.shutdown();
}

main();
