// Uses the page as people do: node page.js CHROMIUM URL RECORDING; prints what it found as one line of JSON.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [, , executablePath, url, recording] = process.argv;
const ENDLESS = { text_temperature: 0, runaway_guard: false, max_tokens: 3000 };

const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
  ],
});
const found = {};

async function open(options = {}) {
  const context = await browser.newContext({ permissions: ["microphone"], ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20000);
  page.elsewhere = [];
  page.complaints = [];
  page.on("request", (request) => {
    const address = new URL(request.url());
    if (!["data:", "blob:"].includes(address.protocol) && address.origin !== url) page.elsewhere.push(request.url());
  });
  page.on("console", (message) => message.type() === "error" && page.complaints.push(message.text()));
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector("#about").textContent.includes("kHz"));
  return page;
}

const status = (page, pattern) =>
  page.waitForFunction((text) => new RegExp(text).test(document.querySelector("#status").textContent), pattern);

/** The WAV of the newest entry of the history, in base64. */
const newest = (page) =>
  page.evaluate(async () => {
    const bytes = await (await fetch(document.querySelector("#history a").href)).arrayBuffer();
    return btoa(Array.from(new Uint8Array(bytes), (byte) => String.fromCharCode(byte)).join(""));
  });

async function byKeyboard() {
  const page = await open();
  const reached = new Set();
  for (let count = 0; count < 40; count += 1) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id));
  }
  for (const id of ["input", "seed", "voice", "drop", "record", "speak"]) assert(reached.has(id), `${id} not reached`);
  await page.focus("#input");
  await page.keyboard.type("Hello there.");
  await page.focus("#seed");
  await page.keyboard.type("1");
  await page.keyboard.press("Control+Enter");
  await status(page, "^Done");
  found.spoken = await newest(page);
  assert.equal(await page.getAttribute("#history a", "download"), "speech-1.wav");
  const drawn = await page.evaluate(() => {
    const canvas = document.querySelector("#wave");
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
  });
  assert(drawn, "no waveform");
  assert.deepEqual(page.elsewhere, []);
  assert.deepEqual(page.complaints, []);
  await unlabelled(page);
  await page.context().close();
}

async function unlabelled(page) {
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("input:not([hidden]), textarea, select, button")]
      .filter((field) => !field.labels?.length && !field.textContent.trim())
      .map((field) => field.id),
  );
  assert.deepEqual(nameless, []);
}

/** Plays before the end is there, and stops when told to. */
async function stopped() {
  const page = await open();
  await page.route("**/v1/audio/speech", (route) =>
    route.continue({ postData: JSON.stringify({ ...route.request().postDataJSON(), ...ENDLESS }) }),
  );
  await page.fill("#input", "A text.");
  await page.click("#speak");
  await status(page, "s, first sound after");
  await page.keyboard.press("Escape");
  await status(page, "^Stopped");
  assert.equal(await page.locator("#history li").count(), 1);
  assert(await page.isEnabled("#speak"));
  await page.context().close();
}

async function withRecordings() {
  const page = await open();
  await page.fill("#input", "Hello there.");
  await page.fill("#seed", "1");
  await page.fill("#duration_s", "0.5");
  await page.setInputFiles("#file", recording);
  await page.click("#speak");
  await status(page, "^Done");
  found.cloned = await newest(page);
  await page.click("#record");
  await page.waitForTimeout(700);
  await page.click("#record");
  await page.waitForFunction(() => document.querySelector("#reference-name").textContent === "your recording");
  await page.click("#speak");
  await status(page, "^Done");
  page.on("dialog", (dialog) => dialog.accept("mine"));
  await page.getByRole("button", { name: "Save as voice" }).first().click();
  await status(page, "mine is registered");
  assert.equal(await page.inputValue("#voice"), "mine");
  await page.click("#speak");
  await status(page, "^Done");
  await page.click("#forget");
  await page.waitForFunction(() => document.querySelector("#voice").value === "default");
  assert.deepEqual(page.complaints, []);
  assert.deepEqual(page.elsewhere, []);
  await page.context().close();
}

async function onAPhone() {
  const page = await open({ viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  const [wide, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert(wide <= inner, `${wide} wide on ${inner}`);
  const low = await page.evaluate(() =>
    [...document.querySelectorAll("button:not([hidden])")].filter((button) => button.offsetHeight < 44).map((b) => b.id),
  );
  assert.deepEqual(low, []);
  await page.fill("#input", "Hello there.");
  await page.tap("#speak");
  await status(page, "^Done");
  await page.screenshot({ path: process.env.SCREENSHOT ?? "/dev/null", fullPage: true, type: "png" });
  await page.context().close();
}

async function whatIsWrong() {
  const page = await open();
  await page.fill("#input", "Hello there.");
  await page.click("summary");
  await page.fill("#max_tokens", "99999");
  await page.click("#speak");
  await status(page, "max_tokens");
  assert.equal(await page.evaluate(() => document.activeElement.id), "max_tokens");
  await page.goto(`${url}/docs`);
  await page.getByText("POST /v1/audio/speech").waitFor();
  assert.deepEqual(page.elsewhere, []);
  await page.context().close();
}

try {
  for (const use of [byKeyboard, stopped, withRecordings, onAPhone, whatIsWrong]) await use();
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
