// A Chromium that hears itself: what it sends to the loudspeaker can be measured.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const PHONE = { viewport: { width: 390, height: 664 }, isMobile: true, hasTouch: true };
const DESK = { viewport: { width: 1280, height: 800 } };

export async function launch(executablePath) {
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"],
  });
}

/** Whatever goes to the loudspeaker goes to a meter as well. The last recording and the last form are remembered. */
function measure() {
  const connect = AudioNode.prototype.connect;
  let meter = null;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to instanceof AudioDestinationNode) {
      // Two thirds of a second: so long may the page have something else to do, and miss nothing.
      meter ??= new AnalyserNode(to.context, { fftSize: 2 ** 15 });
      connect.call(this, meter);
    }
    return connect.call(this, to, ...rest);
  };
  window.loudness = () => {
    if (meter?.context.state !== "running") return 0;
    const samples = new Float32Array(meter.fftSize);
    meter.getFloatTimeDomainData(samples);
    return Math.sqrt(samples.reduce((sum, sample) => sum + sample ** 2, 0) / samples.length);
  };
  const { play } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = function () {
    window.listened = this;
    return play.call(this);
  };
  const { fetch } = window;
  window.fetch = (path, options) => {
    if (options?.body instanceof FormData) {
      window.form = Object.fromEntries([...options.body].map(([name, value]) => [name, value.name ?? value]));
    }
    return fetch(path, options);
  };
}

/** A page of the server at one width. What it asks others for, and complains of, is kept in lists. */
export async function open({ browser, url, width }, { path = "/", ready = "kHz", ...options } = {}) {
  const context = await browser.newContext({ ...(width === 390 ? PHONE : DESK), permissions: ["microphone"], ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(200000);
  Object.assign(page, { elsewhere: [], complaints: [] });
  page.on("request", (request) => {
    const address = new URL(request.url());
    if (!["data:", "blob:"].includes(address.protocol) && address.origin !== url) page.elsewhere.push(request.url());
  });
  page.on("console", (message) => message.type() === "error" && page.complaints.push(message.text()));
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  await page.addInitScript({ path: AXE });
  await page.addInitScript(measure);
  await page.goto(url + path);
  if (ready) await page.waitForFunction((text) => document.querySelector("#about").textContent.includes(text), ready);
  return page;
}

/** The end of a use: nobody else was asked, and nothing went wrong unseen. */
export async function close(page) {
  assert.deepEqual(page.elsewhere, []);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
}

export const status = (page, pattern) =>
  page.waitForFunction((text) => new RegExp(text).test(document.querySelector("#status").textContent), pattern);

/** The form that was sent last: its texts, and the names of its files. */
export const form = (page) => page.evaluate(() => window.form);

export const isHeard = (page) => page.waitForFunction(() => window.loudness() > 0.001);

/** Sooner or later, no sound for longer than any pause in the speech of the tests would be certain to be. */
export async function isSilent(page) {
  await page.waitForFunction(() => window.loudness() === 0);
  for (let look = 0; look < 10; look += 1) {
    assert.equal(await page.evaluate(() => window.loudness()), 0, "there is sound");
    await page.waitForTimeout(50);
  }
}

export const position = (page) => page.evaluate(() => Number(document.querySelector("#seek").value));

export async function speak(page, text, end = "^Done") {
  // Some seeds make a tiny model go on for very long.
  await page.evaluate(() => (document.querySelector("#seed").value ||= "1"));
  await page.fill("#input", text);
  await page.click("#speak");
  await status(page, end);
}

/** axe finds nothing, in light and in dark. */
export async function isAccessible(page, where) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    const found = await page.evaluate(async () => {
      const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
    });
    assert.deepEqual(found, [], `${where}, ${colorScheme}`);
  }
}

export const base64 = (bytes) => Buffer.from(bytes).toString("base64");
