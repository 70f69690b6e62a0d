// memjs, which speaks only the binary protocol, and what is built on it: @keyv/memcache, and connect-memjs for
// the sessions of Express. With a third argument, `user:password`, they log in.

const assert = require("node:assert/strict");
const { promisify } = require("node:util");
const { KeyvMemcache } = require("@keyv/memcache");
const session = require("express-session");
const { Client } = require("memjs");

const [address, server, login] = process.argv.slice(2);
// A retry would hide a lost reply. Each client has one connection.
const options = { retries: 1, timeout: 60, logger: { log() {} } };
const place = login ? `${login}@${address}` : address;
const [reader, writer] = [Client.create(place, options), Client.create(place, options)];
const value = async (client, key) => (await client.get(key)).value?.toString();
const notStored = { message: /Item not stored/ };

async function main() {
  await reader.flush();
  await strings();
  await numbersAndTimes();
  await manyAndLarge();
  if (login) await wrongPasswords();
  await keyv();
  await sessions();
  await statistics();
  await race();
  // This ends the connections, without which the program would not end.
  reader.quit();
  writer.close();
}

async function strings() {
  assert.equal((await reader.get("name")).value, null);
  assert.equal(await reader.set("name", "Ada", {}), true);
  assert.equal(await value(reader, "name"), "Ada");
  assert.equal(await reader.add("name", "Grace", {}), false);
  assert.equal(await reader.add("other", "Grace", {}), true);
  assert.equal(await reader.replace("name", "Eve", {}), true);
  assert.equal(await reader.replace("missing", "Eve", {}), false);
  assert.equal(await reader.append("name", "!"), true);
  // memjs 1.3 sends an append instead.
  assert.equal(await reader.prepend("name", "<"), true);
  assert.equal(await value(writer, "name"), "Eve!<");
  await assert.rejects(reader.append("missing", "!"), notStored);
}

async function numbersAndTimes() {
  assert.equal(await reader.set("number", "9", {}), true);
  assert.deepEqual(await reader.increment("number", 3, {}), { success: true, value: 12 });
  assert.deepEqual(await reader.decrement("number", 20, {}), { success: true, value: 0 });
  // A missing number begins with the initial value.
  assert.deepEqual(await reader.increment("counter", 1, { initial: 5 }), { success: true, value: 5 });
  assert.deepEqual(await reader.increment("counter", 1, { initial: 5 }), { success: true, value: 6 });
  await assert.rejects(reader.increment("name", 1, {}), { message: /non-numeric/ });
  assert.equal(await reader.touch("number", 100), true);
  assert.equal(await reader.touch("missing", 100), false);
  // Above 30 days the number is a date, this one in January 1970.
  assert.equal(await reader.touch("number", 2_592_001), true);
  assert.equal((await reader.get("number")).value, null);
}

async function manyAndLarge() {
  const keys = Array.from({ length: 101 }, (_, n) => `many${n}`);
  await Promise.all(keys.slice(0, 100).map((key) => reader.set(key, key, {})));
  const found = await Promise.all(keys.map((key) => value(reader, key)));
  assert.deepEqual(found, [...keys.slice(0, 100), undefined]);
  assert.equal(await reader.delete("many7"), true);
  assert.equal(await reader.delete("many7"), false);
  assert.equal(await value(reader, "many7"), undefined);

  const large = Buffer.alloc(500_000, "0123456789abcdef\r\n\0\xff", "latin1");
  assert.equal(await reader.set("large", large, {}), true);
  assert.deepEqual((await writer.get("large")).value, large);
  await assert.rejects(reader.set("larger", Buffer.alloc(1_100_000), {}), { message: /Value too large/ });
  assert.equal(await value(reader, "name"), "Eve!<");
}

async function wrongPasswords() {
  for (const wrong of [login.replace(/:.*/, ":wrong"), "nobody:secret"]) {
    const stranger = Client.create(`${wrong}@${address}`, options);
    await assert.rejects(stranger.get("name"), /authentication failed/);
    stranger.close();
  }
  const stranger = Client.create(address, options);
  await assert.rejects(stranger.get("name"), /authentication failed/);
  stranger.close();
}

async function keyv() {
  const cache = new KeyvMemcache(place, options);
  cache.namespace = "keyv";
  assert.deepEqual(await cache.get("name"), { value: undefined, expires: 0 });
  await cache.set("name", JSON.stringify({ value: "Ada" }), 100_000);
  assert.deepEqual(await cache.get("name"), { value: "Ada" });
  assert.equal(await value(writer, "keyv:name"), '{"value":"Ada"}');
  assert.deepEqual(await cache.getMany(["name", "none"]), [{ value: "Ada" }, { value: undefined, expires: 0 }]);
  assert.equal(await cache.has("name"), true);
  assert.equal(await cache.delete("name"), true);
  assert.equal(await cache.delete("name"), false);
  assert.equal(await cache.has("name"), false);
  cache.client.close();
}

async function sessions() {
  const Store = require("connect-memjs")(session);
  const store = new Store({ client: writer, prefix: "session:" });
  const [get, set, destroy] = ["get", "set", "destroy"].map((verb) => promisify(store[verb]).bind(store));
  assert.equal(await get("1"), undefined);
  const kept = { user: "Ada", cookie: { maxAge: 60_000 } };
  await set("1", kept);
  assert.deepEqual(await get("1"), kept);
  await destroy("1");
  assert.equal(await get("1"), undefined);
}

async function statistics() {
  const stats = (group) =>
    new Promise((done, fail) =>
      reader.statsWithKey(group, (error, _, found) => (error ? fail(error) : done(found))),
    );
  const { version, curr_items } = await stats("");
  assert(version.startsWith("1.6.") && Number(curr_items) > 0);
  assert.equal((await stats("settings")).cas_enabled, "yes");
  await reader.flush();
  assert.equal((await reader.get("large")).value, null);
}

// The reader misses and reads the row; the writer changes it and deletes the key; then the old row arrives.
async function race() {
  assert.equal(await value(reader, "price"), undefined);
  await writer.delete("price");
  const late = reader.set("price", "old", {});
  await (server === "refusing" ? assert.rejects(late, notStored) : late);
  const expected = server === "plain" ? "old" : undefined;
  assert.equal(await value(reader, "price"), expected);
  assert.equal(await value(writer, "price"), expected);
}

main();
