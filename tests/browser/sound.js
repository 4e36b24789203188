// Speaking: what is heard, when, and what the buttons do meanwhile.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { base64, close, isHeard, isSilent, open, position, speak, status } from "./browser.js";

const ENDLESS = { text_temperature: 0, runaway_guard: false, max_tokens: 100000 };
const LONG = "The morning was cold, but the sun came out. She said that nothing would ever be the same again. ".repeat(2);

async function downloaded(page, format) {
  await page.selectOption("#format", format);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
  return { name: download.suggestedFilename(), content: base64(await readFile(await download.path())) };
}

export async function byKeyboard(at) {
  const page = await open(at);
  const reached = new Set();
  for (let count = 0; count < 30; count += 1) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.tagName));
  }
  for (const id of ["input", "speak", "SUMMARY", "reset"]) assert(reached.has(id), `${id} not reached`);
  await page.focus("summary");
  await page.keyboard.press("Enter");
  await page.focus("#seed");
  await page.keyboard.type("1");
  await page.focus("#input");
  await page.keyboard.type("Hello there.");
  await page.keyboard.press("Control+Enter");
  await isHeard(page);
  await status(page, "^Done: .* seed 1");
  await page.keyboard.press("Escape");
  const found = { wav: await downloaded(page, "wav"), files: {} };
  for (const format of ["mp3", "flac", "opus", "aac"]) found.files[format] = await downloaded(page, format);
  await close(page);
  return found;
}

/** The request ends long before the sound: the buttons work until nothing is heard any more. */
export async function untilTheSoundEnds(at) {
  const page = await open(at);
  await speak(page, LONG, "^(Speaking|Done)");
  await isHeard(page);
  assert.equal(await page.textContent("#pause"), "Pause");
  await page.click("#pause");
  await status(page, "^Done");
  assert(await page.isEnabled("#stop"), "Stop is dead while there is sound");
  await isSilent(page);
  const paused = await position(page);
  assert(paused > 0);
  await page.waitForTimeout(300);
  assert.equal(await position(page), paused);
  assert(await page.isEnabled("#stop"));
  await page.click("#pause");
  await isHeard(page);
  assert((await position(page)) >= paused);

  await page.click("#stop");
  await isSilent(page);
  assert(await page.isDisabled("#stop"));
  assert.equal(await position(page), 0);
  await seeks(page);
  await close(page);
}

async function seeks(page) {
  const length = await page.evaluate(() => Number(document.querySelector("#seek").max));
  assert(length > 5, `${length} s`);
  const { x, y, width, height } = await page.locator("#seek").boundingBox();
  await page.mouse.click(x + width / 2, y + height / 2);
  assert(Math.abs((await position(page)) - length / 2) < length / 20);
  await page.focus("#seek");
  const before = await position(page);
  await page.keyboard.press("ArrowLeft");
  assert((await position(page)) < before);
  assert.match(await page.getAttribute("#seek", "aria-valuetext"), / of /);
  await page.mouse.click(x + width * 0.7, y + height / 2);
  await page.click("#pause");
  await isHeard(page);
  // What is left is heard to its end, and then nothing is.
  await page.waitForFunction(() => document.querySelector("#pause").textContent === "Play");
  assert(await page.isDisabled("#stop"));
  assert.equal(await position(page), length);
  await isSilent(page);
  await page.click("#pause");
  await isHeard(page);
  assert((await position(page)) < length / 2);
}

/** While it is made: how much there is, and Stop. */
export async function whileItIsMade(at) {
  const page = await open(at);
  await page.route("**/v1/audio/speech", (route) =>
    route.continue({ postData: JSON.stringify({ ...route.request().postDataJSON(), ...ENDLESS }) }),
  );
  await speak(page, "A text.", "^Speaking");
  await isHeard(page);
  await page.waitForFunction(() => /^\d+ % ready · \d+ characters? left$/.test(document.querySelector("#ready").textContent));
  assert(await page.isVisible("#progress"));
  assert(await page.isDisabled("#speak"));
  await page.click("#pause");
  await isSilent(page);
  await page.click("#pause");
  await isHeard(page);
  await page.keyboard.press("Escape");
  await status(page, "^Stopped. .* s are ready");
  await isSilent(page);
  assert(await page.isHidden("#progress"));
  await page.locator("#history li", { hasText: "not to its end" }).waitFor();
  assert.equal(await page.locator("#history li").count(), 1);
  assert(await page.isEnabled("#speak"));
  await playsThePastMeanwhile(page);
  await close(page);
}

/** A speech of the history takes the place of one that is still made, and is what is downloaded then. */
async function playsThePastMeanwhile(page) {
  const old = page.locator("#history li").last();
  const [, seed] = (await old.textContent()).match(/seed (\d+)/);
  await page.evaluate(() => (document.querySelector("#seed").value = "7"));
  await speak(page, "Another text.", "^Speaking");
  await old.getByRole("button", { name: "Play" }).click();
  await status(page, "^Stopped");
  await page.waitForFunction(() => document.querySelectorAll("#history li").length === 2);
  await isHeard(page);
  assert.equal((await downloaded(page, "wav")).name, `speech-${seed}.wav`);
}

export async function whyItEnded(at) {
  const page = await open(at);
  await page.click("summary");
  await page.fill("#max_tokens", "0.4");
  await speak(page, "Hello there, this is cut off.");
  await status(page, "^Done: 0.4 s of speech.* was cut off");
  await page.fill("#max_tokens", "");
  await speak(page, "Hello there.");
  assert.doesNotMatch(await page.textContent("#status"), /cut off/);
  await close(page);
}
