// Voices: recordings, names, dialogues, and what a model has no use for.
import assert from "node:assert/strict";
import { close, form, open, speak, status } from "./browser.js";

const inPlay = (page) =>
  page.waitForFunction(() => window.listened && !window.listened.paused && window.listened.currentTime > 0.05);
const isOver = (page) => page.waitForFunction(() => window.listened.paused);
const hasRecording = (page) =>
  page.waitForFunction(() => document.querySelector(".file-name").textContent.startsWith("My recording ("));

async function shownFields(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll("#settings input[id], #settings .voice legend")]
      .filter((field) => field.checkVisibility())
      .map((field) => field.id || field.textContent),
  );
}

/** What the model cannot use is not there. */
export async function whatTheModelFollows(at) {
  const page = await open(at);
  const fields = await shownFields(page);
  const [label, note] = [await page.textContent("#input-label"), await page.textContent("#model-note")];
  await speak(page, "[S1] Hello there.");
  const isKept = await page.isVisible("#save-result");
  await close(page);
  return { fields, label, note, isKept };
}

/** A recording is made, listened to, and spoken with; the server allows 2 s. */
export async function aRecording(at) {
  const page = await open(at);
  await page.selectOption(".choice", { label: "A recording of mine" });
  assert.match(await page.textContent(".limit"), /At most 2 seconds/);
  await page.fill("#input", "Hello there.");
  await page.evaluate(() => {
    const timer = document.querySelector(".timer");
    window.times = [];
    new MutationObserver(() => window.times.push(timer.textContent)).observe(timer, { childList: true });
  });
  // In the page, which is sooner than its limit.
  const meanwhile = await page.evaluate(async () => {
    const [record, said] = [".record", "#status"].map((name) => document.querySelector(name));
    const until = async (done) => {
      while (!done()) await new Promise((resolve) => setTimeout(resolve, 10));
    };
    record.click();
    await until(() => record.textContent === "Stop recording");
    document.querySelector("#speak").click();
    await until(() => said.textContent.includes("stop the recording first"));
    return record.textContent;
  });
  assert.equal(meanwhile, "Stop recording");
  // It ends by itself at the limit.
  await hasRecording(page);
  const times = await page.evaluate(() => window.times);
  assert.equal(times[0], "0:00 of 0:02");
  assert.match(times.at(-1), /^0:0[1-9] of 0:02$/);
  assert.equal(await page.textContent(".record"), "Record");
  await page.click(".own .listen");
  await inPlay(page);
  await page.click(".own .listen");
  await isOver(page);
  await page.fill(".transcript", "What I said.");
  await speak(page, "Hello there.");
  const { ref_text: transcript, reference } = await form(page);
  assert.equal(transcript, "What I said.");
  assert.match(reference, /^My recording/);
  await page.setInputFiles(".file", at.file);
  await status(page, "is 0:03 long; at most 2 seconds are allowed");
  assert.match(await page.textContent(".file-name"), /^My recording/);
  await page.click(".remove");
  assert.equal(await page.textContent(".file-name"), "Choose a recording");
  await page.click("#speak");
  await status(page, "choose a file");
  await close(page);
}

/** The speech of a file's voice, as Python makes it too. */
export async function aFile(at) {
  const page = await open(at);
  await page.setInputFiles(".file", at.file);
  await page.waitForFunction(() => document.querySelector(".file-name").textContent === "alice.wav");
  await page.click("summary");
  await page.fill("#seed", "1");
  await page.fill("#duration_s", "0.5");
  await speak(page, "Hello there.");
  const samples = await page.evaluate(async () => {
    const { current } = await import("/static/transport.js");
    return [...current().pcm.all()];
  });
  await close(page);
  return { samples };
}

/** Names that the server would refuse are corrected, and what was typed is not lost. */
export async function names(at) {
  const page = await open(at);
  const save = async (name) => {
    await page.click("#save-result");
    await page.fill("#voice-name", name);
  };
  const stored = async (name) => {
    await page.click("#save-voice");
    await status(page, `^The voice ${name} is saved`);
    assert.equal(await page.inputValue(".choice"), `voice:${name}`);
  };
  const name = `Zoë & Bjørn ${at.width}!`;
  const plain = `zoe-bjorn-${at.width}`;
  await speak(page, "Hello there.");
  await save(name);
  assert.equal(await page.textContent("#name-hint"), `It will be saved as ${plain}.`);
  assert.equal(await page.inputValue("#voice-transcript"), "Hello there.");
  await stored(plain);
  assert.match(await page.textContent(`.choice option[value="voice:${plain}"]`), /Zoë & Bjørn/);

  await page.click(".known .listen");
  await inPlay(page);
  await page.click(".known .listen");
  await isOver(page);
  assert.match(await page.textContent(".voice .about"), /It says: “Hello there.”/);

  await save(name);
  assert.match(await page.textContent("#name-hint"), new RegExp(`already\\. It will be saved as ${plain}-2\\.`));
  await stored(`${plain}-2`);
  await save(name);
  await page.check("#replace");
  await stored(plain);
  await deleted(page, [plain, `${plain}-2`]);
  await wordsOfTheServer(page, save);
  await close(page);
}

async function deleted(page, all) {
  for (const name of all) {
    await page.selectOption(".choice", `voice:${name}`);
    await page.click(".forget");
    await page.click("#confirm-yes");
    await status(page, `^The voice ${name} is deleted`);
  }
  assert.equal(await page.inputValue(".choice"), "");
}

/** A refusal leaves the dialog as it is. */
async function wordsOfTheServer(page, save) {
  await save("Again");
  await page.fill("#voice-description", "Calm");
  const error = { message: "1000 voices are the most there may be here", param: null, code: "full" };
  await page.route("**/v1/audio/voices", (route) => route.fulfill({ status: 409, json: { error } }));
  await page.click("#save-voice");
  await page.waitForFunction(() => document.querySelector("#save-error").textContent.includes("are the most"));
  assert.deepEqual([await page.inputValue("#voice-name"), await page.inputValue("#voice-description")], ["Again", "Calm"]);
  page.complaints.length = 0; // Chromium writes down every answer that is an error
}

/** Names become what the server takes, whatever they were. */
export async function corrections(at) {
  const page = await open(at);
  const corrected = await page.evaluate(async (all) => {
    const { corrected } = await import("/static/voices.js");
    return all.map(corrected);
  }, JSON.parse(at.file));
  await close(page);
  return corrected;
}

/** Two speakers: a registered voice and a recording. */
export async function aDialogue(at) {
  const page = await open(at);
  assert.deepEqual(await page.locator(".voice legend").allTextContents(), ["Speaker [S1]", "Speaker [S2]"]);
  await page.click('[data-tag="[S1]"]');
  await page.keyboard.type("Is it raining?");
  await page.click('[data-tag="[S2]"]');
  await page.keyboard.type("No.");
  assert.equal(await page.inputValue("#input"), "[S1] Is it raining? [S2] No.");
  const [one, two] = [0, 1].map((index) => page.locator(".voice").nth(index));
  // A voice of which nobody knows what it says cannot speak in a dialogue.
  assert(await one.locator('option[value="voice:silent"]').isDisabled());
  await one.locator(".choice").selectOption("voice:alice");
  await two.locator(".file").setInputFiles(at.file);
  await two.locator(".drop", { hasText: "alice.wav" }).waitFor();
  await page.click("#speak");
  await status(page, "^Speaker \\[S2\\]: write down");
  await two.locator(".transcript").fill("It was wet.");
  await page.fill("#input", "Nobody speaks.");
  await page.click("#speak");
  await status(page, "^Begin each turn of the script with");
  await page.fill("#input", "[S1] Is it raining? [S2] No.");
  await page.click("#speak");
  await status(page, "^Done");
  const { dialogue_speakers: speakers, S2: file } = await form(page);
  const own = { ref_audio: "upload:S2", ref_text: "It was wet." };
  assert.deepEqual([JSON.parse(speakers), file], [{ S1: { voice: "alice" }, S2: own }, "alice.wav"]);
  await close(page);
}
