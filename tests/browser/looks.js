// How the page and /docs look: what is seen without scrolling, what fingers hit, what axe finds.
import assert from "node:assert/strict";
import { close, isAccessible, open, speak, status } from "./browser.js";

const box = (page, selector) => page.locator(selector).boundingBox();

async function isNarrowEnough(page) {
  const [wide, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert(wide <= inner, `${wide} wide on ${inner}`);
}

export async function arrangement(at) {
  const page = await open(at);
  await isNarrowEnough(page);
  const { height } = page.viewportSize();
  for (const part of ["#speak", "#stop", "#result"]) {
    const { y, height: tall } = await box(page, part);
    assert(y >= 0 && y + tall <= height, `${part} needs scrolling`);
  }
  await page.fill("#input", "שלום");
  assert.equal(await page.locator("#input").evaluate((field) => getComputedStyle(field).direction), "rtl");
  await speak(page, "Hello there.");
  await status(page, "^Done");
  const { y, height: tall } = await box(page, "#download");
  assert(y + tall <= height, "the result needs scrolling");
  const [result, settings] = [await box(page, "#result"), await box(page, "#settings")];
  if (at.width === 390) assert(result.y + result.height <= settings.y, "the settings are above the result");
  else assert(result.x + result.width <= settings.x, "the settings are not beside the result");
  await page.click("summary");
  await isNarrowEnough(page);
  const low = await page.evaluate(() =>
    [...document.querySelectorAll("button, select, input:not([type=checkbox])")]
      .filter((field) => field.checkVisibility() && field.offsetHeight < 44)
      .map((field) => field.id || field.className),
  );
  assert.deepEqual(low, []);
  await close(page);
}

/** Every state that people see, in light and in dark. */
export async function accessible(at) {
  const page = await open(at);
  await isAccessible(page, "at first");
  await page.click("summary");
  await page.selectOption(".choice", { label: "A recording of mine" });
  await page.click(".record");
  await page.waitForTimeout(300);
  await isAccessible(page, "recording");
  await page.click(".record");
  await page.locator(".own .listen").waitFor();
  await isAccessible(page, "with a recording");
  await page.fill("#seed", "-1");
  await page.fill("#input", "Hello there.");
  await page.click("#speak");
  await status(page, "^Seed must be");
  await isAccessible(page, "with an error");
  await page.fill("#seed", "");
  await page.selectOption(".choice", "");
  await speak(page, "Hello there.");
  await isAccessible(page, "done");
  await page.click("#save-result");
  await page.fill("#voice-name", "Zoë");
  await isAccessible(page, "saving a voice");
  await page.click("#save-cancel");
  await page.click("#clear-history");
  await isAccessible(page, "asking");
  await close(page);
}

export async function accessibleWithKey(at) {
  const page = await open(at, { ready: null });
  await page.waitForFunction(() => document.querySelector("#key-error").textContent !== "");
  await isAccessible(page, "wanting a key");
  page.complaints.length = 0; // Chromium writes down every answer that is an error
  await close(page);
}

export async function documentation(at) {
  const page = await open(at, { path: "/docs", ready: null });
  const speech = page.locator("#post-v1-audio-speech");
  await speech.waitFor();
  await isNarrowEnough(page);
  await isAccessible(page, "/docs");
  const words = await speech.textContent();
  for (const part of [`curl ${at.url}/v1/audio/speech`, "Required is one of input, conversation", 'without it: "mp3"', "503", "X-Seed"]) {
    assert(words.includes(part), part);
  }
  const voice = page.locator("#post-v1-audio-voices .field", { hasText: "audio_sample" }).first();
  assert.match(await voice.textContent(), /required/);
  for (const pre of await page.locator("pre").all()) {
    assert(await pre.evaluate((made) => made.scrollWidth <= made.clientWidth + 1), "an example needs scrolling");
  }
  assert.match(await page.locator("#operations").textContent(), /error\.param/);
  await close(page);
}
