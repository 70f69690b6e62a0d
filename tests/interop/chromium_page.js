// The --admin page in a headless browser: contents, sources of events, forms, the token, dark mode, a phone's
// width, the keyboard.
//
//   node chromium_page.js <server> <its admin> <admin of a server with a token> <that token>
//
// SCREENSHOTS=<folder> saves screenshots there, after LOAD_SECONDS (3) of traffic.

const assert = require("node:assert/strict");
const net = require("node:net");
const puppeteer = require("puppeteer-core");

const [server, admin, guarded, token] = process.argv.slice(2);
const seconds = Number(process.env.LOAD_SECONDS ?? 3);
const PATIENCE = { timeout: 60_000 };

// Plain and leasing clients that race with a writer, so that each chart shows something.
class Traffic {
  constructor() {
    const [host, port] = server.split(":");
    this.connections = Array.from({ length: 4 }, () => net.connect(port, host));
    this.connections.forEach((connection, nth) => connection.on("data", data => this.received(nth, data.toString())));
    this.round = 0;
    this.timer = setInterval(() => this.send(), 10);
  }

  send() {
    const [one, two, leasing, other] = this.connections;
    const load = Math.round(12 + 8 * Math.sin(this.round++ / 60));
    for (let nth = 0; nth < load; nth++) {
      const key = `page:${Math.floor(40 * Math.random() ** 3)}`;
      one.write(`get ${key}\r\n`.repeat(10) + (nth % 3 ? "" : `set ${key} 0 60 100\r\n${"x".repeat(100)}\r\n`));
      if (this.round % 5 === 0) two.write(`get user:${nth}\r\nget absent\r\nget missing:${nth % 3}\r\n`);
    }
    if (this.round % 7 === 0) {
      // A reader misses, a writer changes the row, and the reader's fill is too late.
      one.write("delete user:1\r\nget user:1\r\n");
      setTimeout(() => two.write("delete user:1\r\n"), 3);
      setTimeout(() => one.write("set user:1 0 0 3\r\nold\r\n"), 6);
    }
    if (this.round % 11 === 0) {
      leasing.write("delete product:1\r\nlease-get product:1\r\n");
      setTimeout(() => other.write("lease-get product:1\r\nlease-get product:1\r\n"), 2);
      if (this.round % 3 === 0) setTimeout(() => two.write("delete product:1\r\ninvalidate prefix page:7:\r\n"), 4);
    }
    if (this.round % 100 === 0) two.write(`set report:${this.round % 700} 0 0 60000\r\n${"r".repeat(60_000)}\r\n`);
    if (this.round % 3 === 0) two.write("get report:100\r\n");
  }

  received(nth, text) {
    const leased = /LVALUE (\S+) (\d+)/.exec(text);
    if (leased && leased[2] !== "1") setTimeout(() => this.connections[nth].write(`lease-set ${leased[1]} ${leased[2]} 0 0 1\r\nx\r\n`), 8);
  }

  stop() {
    clearInterval(this.timer);
    this.connections.forEach(connection => connection.destroy());
  }
}

async function open(browser, address, complaints) {
  const page = await browser.newPage();
  page.on("console", message => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", error => complaints.push(String(error)));
  page.on("request", request => assert(request.url().startsWith(`http://${address}/`) || request.url().startsWith("data:"), request.url()));
  await page.goto(`http://${address}/`);
  return page;
}

const text = (page, id) => page.$eval(`#${id}`, element => element.innerText);
const until = (page, id, pattern) =>
  page.waitForFunction((id, pattern) => new RegExp(pattern).test(document.getElementById(id).innerText), PATIENCE, id, pattern);

async function picture(page, name) {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png`, fullPage: true });
}

async function showsWhatHappens(page) {
  await until(page, "state", "live");
  // A chart has a line after two samples. The tables show keys once some were sampled, one request in 64.
  await page.waitForFunction(() => [...document.querySelectorAll("[data-chart=throughput] path")].some(path => path.getAttribute("d").includes("L")), PATIENCE);
  await until(page, "tiles", "hit ratio");
  await until(page, "hot", "page:");
  await until(page, "missing", "absent|missing:");
  await until(page, "stopped", "[1-9]");
  await until(page, "policies", "page:[\\s\\S]*all keys");
}

async function showsSources(page) {
  await until(page, "sources", "watermark age[\\s\\S]*app\\s+(down|behind)");
  const event = id => JSON.stringify({ type: "product.updated", id });
  const send = async body => {
    const headers = { "Content-Type": "application/json" };
    assert.equal((await fetch(`http://${admin}/events/app`, { method: "POST", headers, body })).status, 200);
  };
  await send(`[${event(1)}, ${event(2)}, {"type": "other"}, {"type": "product.updated"}]`);
  await until(page, "sources", "app\\s+live");
  const cells = () => page.$$eval("#sources tr", rows => rows.map(row => [...row.cells].map(cell => cell.innerText)));
  const [head, app, failed, error] = await cells();
  const of = name => app[head.indexOf(name)];
  assert.deepEqual(["applied", "unmatched", "poison", "gaps", "dead letters"].map(of), ["2", "1", "1", "0", "0, 1 lost"]);
  assert.deepEqual([failed[0], failed[1]], ["db", "down"]);
  assert.match(error[0], /^db: .*<b>shop/);
  assert.equal(await page.$("#sources b"), null, "an error with HTML in it is shown as text");
}

async function looksUpAKey(page) {
  // By keyboard alone.
  await page.focus("#key");
  await page.keyboard.type("<b>looked up</b>/ä");
  await page.keyboard.press("Enter");
  await until(page, "known", "holds\\s+nothing");
  assert.match(await text(page, "known"), /<b>looked up<\/b>\/ä/, "a key with HTML in it is shown as text");
  await page.$eval("#hot button", button => button.click());
  await until(page, "known", "holds\\s+a live value");
}

// The page asks before it invalidates many values.
async function invalidateAnd(page, answer) {
  await page.click("#invalidate .danger");
  await page.waitForSelector("#ask[open]", PATIENCE);
  await answer();
  await page.waitForSelector("#ask:not([open])", PATIENCE);
}

async function invalidates(page) {
  const yes = () => page.click("#ask-yes");
  await page.select("#kind", "prefixes");
  await page.type("#names", "page:\nno-delimiter");
  await invalidateAnd(page, yes);
  await until(page, "invalidated", "no-delimiter");
  await page.$eval("#names", names => names.value = "page:");
  await invalidateAnd(page, () => page.keyboard.press("Escape"));
  assert.match(await text(page, "invalidated"), /no-delimiter/, "a canceled dialog invalidates nothing");
  await invalidateAnd(page, yes);
  await until(page, "invalidated", "page:\\s+invalidated");
  await page.select("#kind", "all");
  await invalidateAnd(page, async () => {
    await picture(page, "confirm");
    await page.keyboard.press("Escape");
  });
  assert.match(await text(page, "invalidated"), /page:/, "a canceled dialog invalidates nothing");
  await invalidateAnd(page, yes);
  await until(page, "invalidated", "Everything was invalidated");
}

async function isReadableEverywhere(page) {
  for (const [name, width, scheme] of [["light", 1280, "light"], ["dark", 1280, "dark"], ["phone", 390, "light"], ["phone-dark", 390, "dark"]]) {
    await page.setViewport({ width, height: 900 });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await page.evaluate(() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))));
    await picture(page, name);
    const [whole, shown] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert(whole <= shown, `${name}: ${whole} pixels in ${shown}`);
  }
}

async function asksForTheTokenOnce(browser, complaints) {
  const page = await open(browser, guarded, complaints);
  assert(await page.$eval("#sources-of-events", section => section.hidden), "a server without sources shows none");
  await page.waitForSelector("#ask[open]", PATIENCE);
  await page.type("#ask-token", "wrong");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#ask[open]") && document.querySelector("#ask-token").value === "", PATIENCE);
  await picture(page, "token");
  await page.type("#ask-token", token);
  await page.keyboard.press("Enter");
  await until(page, "state", "live");
  await page.reload();
  await until(page, "state", "live");
}

async function main() {
  const options = { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] };
  const [browser, traffic] = [await puppeteer.launch(options), new Traffic()];
  try {
    const complaints = [];
    const page = await open(browser, admin, complaints);
    await showsWhatHappens(page);
    await showsSources(page);
    await new Promise(done => setTimeout(done, seconds * 1000));
    await looksUpAKey(page);
    await isReadableEverywhere(page);
    await invalidates(page);
    assert.deepEqual(complaints.splice(0).filter(line => !/status of 400/.test(line)), []);
    await asksForTheTokenOnce(browser, complaints);
    assert.deepEqual(complaints.filter(line => !/status of 401/.test(line)), []);
  } finally {
    traffic.stop();
    await browser.close();
  }
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
