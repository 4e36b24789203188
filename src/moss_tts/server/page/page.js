// The page at /: speaks through the same API as everybody, and asks nobody else.
import { $, download, say } from "./dom.js";
import * as fields from "./fields.js";
import { entryOf, remember, showHistory } from "./history.js";
import { choose, chosen, loadModels, look } from "./models.js";
import { toWav } from "./pcm.js";
import { silence } from "./preview.js";
import { Refusal, ask, useKey } from "./server.js";
import { speak } from "./speech.js";
import { keepForm, keptForm, openStore } from "./store.js";
import { isSubtitles, toSubtitles } from "./subtitles.js";
import * as transport from "./transport.js";
import { choices, makeChoices } from "./voice_choice.js";
import { loadVoices, saveDialog } from "./voices.js";

// Milliseconds after the last letter until the form is kept.
const PAUSE = 300;

const state = { model: null, store: null, result: null, timer: 0 };

// --------------------------------------------------------------------------------------------------- start

async function start() {
  state.store ??= await openStore();
  await showHistory(state.store, { onplay: showResult, onuse: useAgain });
  try {
    await load();
    say("");
  } catch (error) {
    if (error.status === 401) wantKey(error);
    else say(error.message, true);
  }
}

async function load() {
  const kept = keptForm();
  await loadModels(kept.model);
  $("key-form").hidden = true;
  await suit(kept);
}

/** Show what the chosen model follows, with these settings. */
async function suit(settings) {
  const model = (state.model = chosen());
  $("about").textContent = `${model.id} · ${model.sample_rate / 1000} kHz`;
  makeChoices(model, state.store);
  fields.suit(model);
  fields.restore(settings);
  for (const choice of choices()) await choice.recall();
  await loadVoices((voices) => choices().forEach((choice) => choice.offer(voices)));
}

function wantKey({ message }) {
  $("key-form").hidden = false;
  $("key-error").textContent = message;
  $("key").focus();
}

// -------------------------------------------------------------------------------------------------- speaking

async function begin() {
  silence();
  if (!state.model) await start();
  if (!state.model) return;
  await speak(state.model, async (speech) => {
    const entry = entryOf(speech);
    // Something else may be on by now.
    if (transport.current() === speech.player) showResult(entry, speech.player);
    await remember(entry, speech.player);
  });
  $("keep").hidden = state.result === null;
  await look().catch(() => null);
}

/** A result that is whole can be kept elsewhere. */
function showResult(entry, player) {
  state.result = { entry, player };
  $("keep").hidden = false;
}

async function useAgain({ settings, seed }) {
  const again = { ...settings, seed: String(seed) };
  if (choose(settings.model)) await suit(again);
  else fields.restore(again);
  keep();
  $("input").focus();
  $("input").scrollIntoView({ block: "nearest" });
}

// -------------------------------------------------------------------------------------------------- keeping

function keep() {
  clearTimeout(state.timer);
  if (state.model) keepForm(fields.snapshot());
}

function keepSoon() {
  clearTimeout(state.timer);
  state.timer = setTimeout(keep, PAUSE);
}

/** WAV and subtitles are made here; of other formats the server makes files. */
async function file(format) {
  const { cues, settings } = state.result.entry;
  if (isSubtitles(format)) {
    if (!cues?.length) throw new Refusal("Nothing is known of when the segments of this speech are heard.");
    return toSubtitles(cues, format);
  }
  const { rate, channels } = state.result.player.pcm;
  const samples = state.result.player.pcm.all();
  if (format === "wav") return toWav(samples, rate, channels);
  if (samples.byteLength > state.model.limits.body_bytes) {
    throw new Refusal("This speech is too long for the server to convert. WAV has no limit.");
  }
  const query = new URLSearchParams({ response_format: format, sample_rate: rate, channels });
  if (settings.model) query.set("model", settings.model);
  const headers = { "Content-Type": "audio/pcm" };
  return (await ask(`v1/audio/encode?${query}`, { method: "POST", headers, body: samples })).blob();
}

async function downloadResult() {
  const [format, { seed }] = [$("format").value, state.result.entry];
  $("download").disabled = true;
  try {
    download(await file(format), `speech-${seed}.${format}`);
  } catch (error) {
    say(error.message, true);
  } finally {
    $("download").disabled = false;
  }
}

function saveResult() {
  const { entry, player } = state.result;
  const blob = toWav(player.pcm.all(), player.pcm.rate, player.pcm.channels);
  const { instructions: description = "" } = entry.settings;
  saveDialog({ blob, name: "speech.wav", transcript: entry.text, description }, choices()[0]);
}

// --------------------------------------------------------------------------------------------------- events

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  begin();
});
$("form").addEventListener("input", keepSoon);
$("form").addEventListener("change", keepSoon);
$("model").addEventListener("change", async () => {
  await suit(fields.snapshot());
  await look().catch(() => null);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state.model) look().catch(() => null);
});
$("input").addEventListener("input", fields.countCharacters);
$("tags").addEventListener("click", ({ target }) => target.dataset.tag && fields.insertTag(target.dataset.tag));
$("pause").addEventListener("click", silence);
$("download").addEventListener("click", downloadResult);
$("save-result").addEventListener("click", saveResult);
$("reset").addEventListener("click", () => {
  fields.reset();
  keep();
  say("The settings are reset.");
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value);
  start();
});
document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) begin();
  if (event.key === "Escape") transport.stop();
});
window.addEventListener("pagehide", keep);

start();
