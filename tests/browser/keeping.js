// What outlives a reload, what the key opens, and what people are told when things go wrong.
import assert from "node:assert/strict";
import { close, isAccessible, isHeard, open, speak, status } from "./browser.js";

const ready = (page) => page.waitForFunction(() => document.querySelector("#about").textContent.includes("kHz"));

export async function afterAReload(at) {
  const page = await open(at);
  await page.click("summary");
  await page.fill("#temperature", "0.5");
  await page.fill("#instructions", "Glad");
  await page.check("#long_form");
  await page.setInputFiles(".file", at.file);
  await page.locator(".drop", { hasText: "alice.wav" }).waitFor();
  await page.fill(".transcript", "What Alice says.");
  await speak(page, "The first text.");
  await page.selectOption("#format", "flac");
  await page.fill("#input", "A text that is not spoken yet.");
  await page.reload();
  await ready(page);
  await page.locator(".drop", { hasText: "alice.wav" }).waitFor();
  const kept = Object.fromEntries(
    await Promise.all(["#input", "#temperature", "#instructions", ".choice", ".transcript"].map(async (field) => [field, await page.inputValue(field)])),
  );
  assert.deepEqual(kept, {
    "#input": "A text that is not spoken yet.",
    "#temperature": "0.5",
    "#instructions": "Glad",
    ".choice": "own",
    ".transcript": "What Alice says.",
  });
  assert(await page.isChecked("#long_form"));
  assert.equal(await page.inputValue("#format"), "flac");
  await itsHistory(page);
  await page.click("#reset");
  assert.equal(await page.inputValue("#temperature"), "");
  assert.equal(await page.inputValue("#input"), "The first text.");
  await close(page);
}

async function itsHistory(page) {
  const entry = page.locator("#history li");
  assert.match(await entry.textContent(), /The first text\./);
  await entry.getByRole("button", { name: "Play" }).click();
  await isHeard(page);
  await page.click("#stop");
  assert(await page.isVisible("#download"));
  await entry.getByRole("button", { name: "Use again" }).click();
  assert.equal(await page.inputValue("#input"), "The first text.");
  assert.match(await page.inputValue("#seed"), /^\d+$/);
  await entry.getByRole("button", { name: "Delete" }).click();
  await page.waitForFunction(() => !document.querySelector("#history li"));
  assert(await page.isHidden("#clear-history"));
}

/** The history is bounded, and the newest is never what goes. */
export async function bounds(at) {
  const page = await open(at);
  const found = await page.evaluate(async () => {
    const { MOST_BYTES, MOST_ENTRIES, openStore, surplus } = await import("/static/store.js");
    const ids = (entries) => surplus(entries).map(({ id }) => id).sort((one, other) => one - other);
    const sized = (...sizes) => sizes.map((bytes, index) => ({ id: index + 1, bytes }));
    const store = await openStore();
    for (let number = 0; number < MOST_ENTRIES + 3; number += 1) await store.add({ text: `${number}`, bytes: 4 }, new ArrayBuffer(4));
    const entries = await store.entries();
    return {
      none: ids([]),
      few: ids(sized(1, 1, 1)),
      large: ids(sized(1, MOST_BYTES, MOST_BYTES / 2)),
      newest: ids(sized(1, 2 * MOST_BYTES)),
      kept: [entries.length === MOST_ENTRIES, entries[0].text],
      samples: [await store.samples(entries[0].id - 1), (await store.samples(entries[0].id)).byteLength],
    };
  });
  const kept = { kept: [true, "3"], samples: [undefined, 4] };
  assert.deepEqual(found, { none: [], few: [], large: [1, 2], newest: [1], ...kept });
  await close(page);
}

/** A browser that keeps nothing still speaks. */
export async function withoutStorage(at) {
  const page = await open(at, { ready: null });
  await page.addInitScript(() => {
    Object.defineProperty(window, "indexedDB", { get: () => undefined });
    Object.defineProperty(window, "localStorage", { get: () => { throw new Error("no storage"); } });
    Object.defineProperty(window, "sessionStorage", { get: () => { throw new Error("no storage"); } });
  });
  await page.reload();
  await ready(page);
  assert.match(await page.textContent("#history-hint"), /until this page is closed/);
  await speak(page, "Hello there.");
  await page.getByRole("button", { name: "Play: Hello" }).click();
  await isHeard(page);
  await close(page);
}

/** The key is asked for where the server wants one, and nowhere else. */
export async function aKey(at) {
  const page = await open(at, { ready: null });
  await page.waitForFunction(() => document.querySelector("#key-error").textContent === "This server needs a key.");
  assert(await page.isVisible("#key"));
  await page.fill("#key", "wrong");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#key-error").textContent.startsWith("This is not the key"));
  await page.fill("#key", "secret");
  await page.keyboard.press("Enter");
  await ready(page);
  assert(await page.isHidden("#key"));
  await speak(page, "Hello there.");
  await page.reload();
  await ready(page);
  assert(await page.isHidden("#key"));
  page.complaints = page.complaints.filter((text) => !text.includes("401"));
  await close(page);
}

export async function noKey(at) {
  const page = await open(at);
  assert(await page.isHidden("#key"));
  await close(page);
}

/** Errors in words for people, and what was typed stays. */
export async function whatGoesWrong(at) {
  const page = await open(at);
  await page.click("#speak");
  await status(page, "^There is nothing to speak yet");
  assert.equal(await page.evaluate(() => document.activeElement.id), "input");
  await page.fill("#input", "Hello there.");
  await page.evaluate(() => (document.querySelector("#max_tokens").value = "99999"));
  await page.click("#speak");
  await status(page, "^Longest in seconds must be from 0.1 to ");
  assert.equal(await page.evaluate(() => document.activeElement.id), "max_tokens");
  assert.match(await page.textContent("#max_tokens-error"), /must be from/);
  await page.click("#speak");
  assert.equal(await page.locator("#max_tokens-error").count(), 1);
  assert.equal(await page.getAttribute("#max_tokens", "aria-describedby"), "max_tokens-error");
  await page.fill("#max_tokens", "");
  assert.equal(await page.locator("#max_tokens-error").count(), 0);
  await page.fill("#input", "…");
  await page.click("#speak");
  await status(page, "no letter and no digit");
  await page.fill("#input", "Hello there.");
  await itsNetwork(page);
  page.complaints.length = 0; // Chromium writes down every answer that is an error
  await close(page);
}

async function itsNetwork(page) {
  await page.context().setOffline(true);
  await page.click("#speak");
  await status(page, "^The server does not answer");
  await page.context().setOffline(false);
  const answers = [
    [503, { code: "overloaded" }, "^The server is busy. Try again in 7 seconds"],
    [500, {}, "^The server failed. Its log says more"],
    [502, null, "^The server answered with error 502"],
  ];
  for (const [code, error, words] of answers) {
    const answer = { status: code, headers: { "Retry-After": "7" }, body: error ? JSON.stringify({ error }) : "<html>" };
    await page.route("**/v1/audio/speech", (route) => route.fulfill(answer));
    await page.click("#speak");
    await status(page, words);
    await page.unroute("**/v1/audio/speech");
  }
  await cutOff(page);
  await page.click("#speak");
  await status(page, "^Done");
}

/** A stream without its end: what had come is there. */
async function cutOff(page) {
  const audio = Buffer.alloc(48000).toString("base64");
  const body = `data: ${JSON.stringify({ type: "speech.audio.delta", audio })}\n\n`;
  const headers = { "X-Sample-Rate": "24000", "X-Channels": "1", "X-Seed": "1" };
  await page.route("**/v1/audio/speech", (route) => route.fulfill({ status: 200, headers, body }));
  await page.click("#speak");
  await status(page, "^The connection to the server was lost. 1.0 s are ready");
  await page.waitForFunction(() => document.querySelectorAll("#history li").length === 1);
  await page.unroute("**/v1/audio/speech");
}

/** A field for each adapter; an empty one leaves the weight to the server, and what is given is sent and kept. */
export async function adapterWeights(at) {
  const page = await open(at);
  const [ada, other] = [page.getByLabel("ada", { exact: true }), page.getByLabel("old & slow", { exact: true })];
  assert.deepEqual([await ada.getAttribute("placeholder"), await other.getAttribute("placeholder")], ["0.5", "0"]);
  const sent = async () => {
    const asked = page.waitForRequest("**/v1/audio/speech");
    await speak(page, "Hello there.", "^(Done|Stopped)");
    return (await asked).postDataJSON().adapters;
  };
  assert.equal(await sent(), undefined);
  await other.fill("1.5");
  assert.deepEqual(await sent(), { ada: 0.5, "old & slow": 1.5 });
  await ada.fill("-0.25");
  assert.deepEqual(await sent(), { ada: -0.25, "old & slow": 1.5 });
  await other.fill("1000");
  await page.click("#speak");
  await status(page, "^old & slow must be from -100 to 100");
  await other.fill("2");
  await page.waitForTimeout(400);
  await page.reload();
  await ready(page);
  assert.deepEqual([await ada.inputValue(), await other.inputValue()], ["-0.25", "2"]);
  await isAccessible(page, "with adapters");
  await page.click("#reset");
  assert.equal(await ada.inputValue(), "");
  await close(page);
}
