// The model that speaks, whether it is in memory, and how its speech is read and kept.
import assert from "node:assert/strict";
import { base64, close, isAccessible, open, speak, status } from "./browser.js";
import { readFile } from "node:fs/promises";

const options = (page, field) => page.locator(`${field} option`).allTextContents();

/** The picker shows where each model is, and a speech is made by the one that was chosen. */
export async function aModel(at) {
  const page = await open(at);
  assert.deepEqual(await options(page, "#model"), ["demo (in memory)", "fast (not in memory)"]);
  const rate = await page.textContent("#about");
  await page.selectOption("#model", "fast");
  await page.waitForFunction((before) => document.querySelector("#about").textContent !== before, rate);
  assert.match(await page.textContent("#about"), /^fast · 48 kHz/);
  await page.waitForFunction(() => document.querySelector("#model-state").textContent.includes("waits until it is loaded"));
  await isAccessible(page, "with a model that is not in memory");
  await speak(page, "Hello there.");
  await page.waitForFunction(() => document.querySelector("#model").selectedOptions[0].textContent === "fast (in memory)");
  assert(await page.isHidden("#model-state"));
  await page.reload();
  await page.waitForFunction(() => document.querySelector("#about").textContent.startsWith("fast"));
  await page.selectOption("#model", "demo");
  await page.waitForFunction(() => document.querySelector("#about").textContent.startsWith("demo"));
  await page.getByRole("button", { name: "Use again" }).click();
  await page.waitForFunction(() => document.querySelector("#about").textContent.startsWith("fast"));
  await close(page);
}

/** While a model is loaded, people are told how far it is. */
export async function aModelThatIsLoaded(at) {
  const page = await open(at);
  let health = { state: "unloaded" };
  await page.route("**/health", (route) =>
    route.fulfill({ status: 200, body: JSON.stringify({ status: "ok", models: { demo: health, fast: health } }) }),
  );
  let answer = null;
  await page.route("**/v1/audio/speech", (route) => new Promise((go) => (answer = () => go(route.continue()))));
  await page.fill("#seed", "1").catch(() => page.evaluate(() => (document.querySelector("#seed").value = "1")));
  await page.fill("#input", "Hello there.");
  await page.click("#speak");
  await status(page, "^Waiting for room for the model demo");
  health = { state: "loading", progress: 0.4 };
  await status(page, "^The model demo is being loaded \\(40 %\\)");
  health = { state: "loaded" };
  answer();
  await status(page, "^Done");
  await close(page);
}

/** Speed and lexicon go with the request; the times of the segments are kept as files. */
export async function subtitles(at) {
  const page = await open(at);
  assert.deepEqual(await options(page, "#lexicon"), ["none", "names"]);
  await page.selectOption("#lexicon", "names");
  await page.fill("#speed", "2");
  const sent = page.waitForRequest("**/v1/audio/speech");
  await speak(page, "Hello there.");
  const { speed, lexicon, timestamps } = (await sent).postDataJSON();
  assert.deepEqual({ speed, lexicon, timestamps }, { speed: 2, lexicon: "names", timestamps: "segment" });
  const files = {};
  for (const format of ["srt", "vtt"]) {
    await page.selectOption("#format", format);
    const [file] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
    assert.equal(file.suggestedFilename(), `speech-1.${format}`);
    files[format] = base64(await readFile(await file.path()));
  }
  await close(page);
  return files;
}

/** What a server with one model and without lexicons does not show. */
export async function oneModel(at) {
  const page = await open(at);
  for (const part of ["#model-choice", "#model-state", "#lexicon-choice"]) assert(await page.isHidden(part), part);
  await close(page);
}
