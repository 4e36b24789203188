// The page at /: speaks through the same API as everybody, plays PCM while it comes in, and asks nobody else.
import { Player, drawWave, toWav } from "./sound.js";

const $ = (id) => document.getElementById(id);
const NUMBERS = ["duration_s", "seed", "temperature", "top_p", "top_k", "repetition_penalty", "max_tokens"];
const TEXTS = ["input", "instructions", "ambient_sound", "scene", "language"];

const state = { reference: null, running: null, recorder: null, player: null };

// ------------------------------------------------------------------------------------------------- server

function headers(more = {}) {
  const key = $("key").value;
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers(options.headers) });
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  const answer = await response.json().catch(() => null);
  const error = new Error(answer?.error?.message ?? `the server answered ${response.status}`);
  error.field = answer?.error?.param;
  return error;
}

async function loadModel() {
  const { data: [model] } = await (await ask("v1/models")).json();
  $("about").textContent = `${model.id} · ${model.preset} · ${model.sample_rate / 1000} kHz`;
  for (const part of document.querySelectorAll("[data-for]")) {
    part.hidden = !part.dataset.for.split(" ").includes(model.preset);
  }
  $("text-label").textContent = model.preset === "ttsd" ? "Script: [S1] … [S2] …" : "Text";
}

async function loadVoices(chosen = "default") {
  const { voices } = await (await ask("v1/audio/voices")).json();
  $("voice").replaceChildren(...voices.map(({ id, name }) => new Option(name, id)));
  $("voice").value = chosen;
  showVoice();
}

// --------------------------------------------------------------------------------------------------- form

function body() {
  const fields = { response_format: "pcm", stream: true, streaming_interval: 0.24 };
  for (const name of TEXTS) {
    const field = $(name);
    if (field.value.trim() && !field.closest("[hidden]")) fields[name] = field.value;
  }
  for (const name of NUMBERS) if ($(name).value !== "") fields[name] = Number($(name).value);
  if ($("long_form").checked) fields.long_form = true;
  if (!state.reference) fields.voice = $("voice").value;
  return fields;
}

/** A recording travels as a file, everything else as JSON. */
function request(fields) {
  if (!state.reference) {
    return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) };
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("reference", state.reference.blob, state.reference.name);
  return { method: "POST", body: form };
}

function say(message, bad = false) {
  $("status").textContent = message;
  $("status").classList.toggle("bad", bad);
}

// ------------------------------------------------------------------------------------------------ speaking

async function speak() {
  if (state.running) return;
  const fields = body();
  const running = new AbortController();
  state.running = running;
  buttons();
  const started = performance.now();
  say("Waiting for the first sound…");
  try {
    const response = await ask("v1/audio/speech", { ...request(fields), signal: running.signal });
    await listen(response, fields, started);
  } catch (error) {
    report(error);
  } finally {
    state.running = null;
    buttons();
  }
}

async function listen(response, fields, started) {
  const rate = Number(response.headers.get("X-Sample-Rate"));
  const channels = Number(response.headers.get("X-Channels"));
  const seed = response.headers.get("X-Seed");
  const warning = response.headers.get("X-Warning");
  state.player?.stop();
  const player = state.player = new Player(rate, channels);
  const reader = response.body.getReader();
  let first = null;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      first ??= (performance.now() - started) / 1000;
      player.feed(value);
      drawWave($("wave"), player.samples());
      say(`${player.seconds.toFixed(1)} s, first sound after ${first.toFixed(2)} s, seed ${seed}`);
    }
    say(`Done: ${player.seconds.toFixed(1)} s, first sound after ${first.toFixed(2)} s, seed ${seed}. ${warning ?? ""}`);
  } finally {
    if (player.seconds > 0) remember(player, fields, seed);
  }
}

function report(error) {
  if (error.name === "AbortError") return say("Stopped.");
  say(error.message, true);
  if (error.field && $(error.field)) $(error.field).focus();
}

function stop() {
  state.running?.abort();
  state.player?.stop();
}

function buttons() {
  $("speak").disabled = state.running !== null;
  $("stop").disabled = state.running === null;
}

// ------------------------------------------------------------------------------------------------- history

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function remember(player, fields, seed) {
  const wav = toWav(player.pcm(), player.rate, player.channels);
  const url = URL.createObjectURL(wav);
  const what = fields.input ?? fields.ambient_sound ?? "";
  const again = element("button", { type: "button", textContent: "Use again" });
  const keep = element("button", { type: "button", textContent: "Save as voice" });
  const item = element(
    "li",
    {},
    element("span", { textContent: `${what.slice(0, 120)} (seed ${seed})` }),
    element("audio", { controls: true, src: url, preload: "metadata" }),
    element(
      "div",
      { className: "row" },
      element("a", { href: url, download: `speech-${seed}.wav`, textContent: "Download" }),
      again,
      keep,
    ),
  );
  again.addEventListener("click", () => refill(fields, seed));
  keep.addEventListener("click", () => saveVoice(wav, what, fields.instructions));
  $("history").prepend(item);
}

function refill(fields, seed) {
  for (const name of [...TEXTS, ...NUMBERS]) $(name).value = fields[name] ?? "";
  $("seed").value = seed;
  $("input").focus();
}

// -------------------------------------------------------------------------------------------------- voices

async function saveVoice(blob, transcript, description) {
  const name = window.prompt("Name of the voice (a-z, 0-9, - and _)");
  if (!name) return;
  const form = new FormData();
  form.append("name", name);
  form.append("audio_sample", blob, `${name}.wav`);
  if (transcript) form.append("transcript", transcript);
  if (description) form.append("description", description);
  try {
    await ask("v1/audio/voices", { method: "POST", body: form });
    await loadVoices(name);
    useReference(null);
    say(`Voice ${name} is registered.`);
  } catch (error) {
    report(error);
  }
}

async function forgetVoice() {
  const name = $("voice").value;
  if (!window.confirm(`Forget the voice ${name}?`)) return;
  try {
    await ask(`v1/audio/voices/${encodeURIComponent(name)}`, { method: "DELETE" });
    await loadVoices();
  } catch (error) {
    report(error);
  }
}

function showVoice() {
  $("forget").hidden = $("voice").value === "default";
}

function useReference(blob, name = "recording") {
  state.reference = blob && { blob, name };
  $("reference-name").textContent = blob ? name : "No recording";
  $("clear").hidden = !blob;
  $("voice").disabled = Boolean(blob);
}

async function toggleRecording() {
  if (state.recorder) return state.recorder.stop();
  if (!navigator.mediaDevices) return say("Recording needs https or localhost; drop a file instead.", true);
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const parts = [];
    const recorder = state.recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
    recorder.addEventListener("stop", () => {
      for (const track of stream.getTracks()) track.stop();
      state.recorder = null;
      showRecording();
      useReference(new Blob(parts, { type: recorder.mimeType }), "your recording");
    });
    recorder.start();
  } catch (error) {
    say(`The microphone cannot be used: ${error.message}`, true);
  }
  showRecording();
}

function showRecording() {
  $("record").textContent = state.recorder ? "Stop recording" : "Record";
  $("record").classList.toggle("recording", Boolean(state.recorder));
}

// --------------------------------------------------------------------------------------------------- events

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  speak();
});
$("stop").addEventListener("click", stop);
$("voice").addEventListener("change", showVoice);
$("forget").addEventListener("click", forgetVoice);
$("record").addEventListener("click", toggleRecording);
$("clear").addEventListener("click", () => useReference(null));
$("key").addEventListener("change", () => start());
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) speak();
  if (event.key === "Escape") stop();
});

const drop = $("drop");
drop.addEventListener("click", () => $("file").click());
drop.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  $("file").click();
});
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) useReference(file, file.name);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
  });
}
drop.addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  if (file) useReference(file, file.name);
});

async function start() {
  try {
    await loadModel();
    await loadVoices();
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

start();
