// Choosing a voice: the model's own, a registered one, or a recording that somebody brings or makes.
import { $, clock, length, say, span } from "./dom.js";
import { listens, silence } from "./preview.js";
import { Recorder } from "./recorder.js";
import { Refusal } from "./server.js";
import { hush } from "./transport.js";
import { forgetVoice, sampleOf, saveDialog } from "./voices.js";

const [DEFAULT, OWN] = ["", "own"];
let all = [];

export const choices = () => all;

/** The choices that a model has use for: one, or one for each speaker of a dialogue. */
export function makeChoices({ fields, limits, voice }, store) {
  const names = fields.includes("dialogue_speakers") ? ["S1", "S2"] : fields.includes("reference") ? ["reference"] : [];
  const limit = limits.recording_seconds / Math.max(1, names.length);
  all = names.map((name) => new VoiceChoice({ name, limit, voice, store, spoken: names.length > 1 }));
  $("voices").replaceChildren(...all.map((choice) => choice.box));
}

/** What the choices add to a request: its fields, and files for them. */
export function voiceFields() {
  const files = {};
  for (const choice of all) if (choice.value === OWN) files[choice.name] = choice.chosen();
  if (all.length < 2) return { own: all[0]?.fields() ?? {}, files };
  const speakers = Object.fromEntries(all.map((choice) => [choice.name, choice.speaker()]));
  return { own: Object.values(speakers).some(Boolean) ? { dialogue_speakers: speakers } : {}, files };
}

class VoiceChoice {
  constructor({ name, limit, voice, store, spoken }) {
    Object.assign(this, { name, limit, store, spoken, recording: null, recorder: null, wanted: DEFAULT });
    this.box = $("voice-template").content.firstElementChild.cloneNode(true);
    this.title = spoken ? `Speaker [${name}]` : "Voice";
    this.part("legend").textContent = this.title;
    this.first = voice && !spoken ? `The server's own (${voice})` : "The model's choice";
    const text = spoken ? " A dialogue needs the text of the recording." : "";
    this.part(".limit").textContent = `At most ${span(limit)}.${text} It is kept in this browser until you remove it.`;
    this.wire();
    this.offer(null);
  }

  part(selector) {
    return this.box.querySelector(selector);
  }

  get value() {
    return this.part(".choice").value;
  }

  get transcript() {
    return this.part(".transcript").value.trim();
  }

  // ---------------------------------------------------------------------------------------------- choosing

  /** The voices that are registered now; null is not known. A dialogue needs to know what their recordings say. */
  offer(voices) {
    this.voices = voices;
    const options = (voices ?? []).map(({ id, description, transcript, broken }) => {
      const lacks = this.spoken && !transcript;
      const about = broken ? " (broken)" : lacks ? " (its words are not known)" : description ? ` (${description.slice(0, 60)})` : "";
      return Object.assign(new Option(id + about, `voice:${id}`), { disabled: lacks });
    });
    this.part(".choice").replaceChildren(new Option(this.first, DEFAULT), ...options, new Option("A recording of mine", OWN));
    this.choose(this.wanted);
  }

  /** Choose a voice; one that is not there yet may come with the next offer. */
  choose(value) {
    this.wanted = value;
    this.part(".choice").value = value;
    if (this.part(".choice").selectedIndex < 0) this.part(".choice").value = DEFAULT;
    this.show();
  }

  get registered() {
    return this.voices?.find(({ id }) => this.value === `voice:${id}`) ?? null;
  }

  show() {
    const voice = this.registered;
    const isGone = this.voices && this.wanted !== this.value;
    const says = voice?.transcript ? `It says: “${voice.transcript.slice(0, 120)}”` : "";
    const about = voice?.broken ?? (voice ? `${length(voice.seconds)} long. ${says}` : "");
    this.part(".about").textContent = isGone ? `The voice ${this.wanted.replace("voice:", "")} is no longer there.` : about;
    this.part(".known").hidden = !voice;
    this.part(".own").hidden = this.value !== OWN;
  }

  // ---------------------------------------------------------------------------------------------- requests

  /** The recording that is chosen. */
  chosen() {
    if (this.recorder) throw new Refusal(`${this.title}: stop the recording first.`);
    if (!this.recording) throw new Refusal(`${this.title}: record something, choose a file, or choose another voice.`);
    if (this.spoken && !this.transcript) throw new Refusal(`${this.title}: write down what the recording says.`);
    return this.recording;
  }

  /** Fields of a request with one voice. */
  fields() {
    if (this.value === OWN) return this.transcript ? { ref_text: this.transcript } : {};
    return this.registered ? { voice: this.registered.id } : {};
  }

  /** An entry of dialogue_speakers. */
  speaker() {
    if (this.value === OWN) return { ref_audio: `upload:${this.name}`, ref_text: this.transcript };
    return this.registered && { voice: this.registered.id };
  }

  // --------------------------------------------------------------------------------------------- recording

  async use(blob, name = "My recording") {
    silence();
    this.put(blob && { blob, name });
    if (blob) this.choose(OWN);
    await this.store.keep(this.name, this.recording);
    this.box.dispatchEvent(new Event("change", { bubbles: true }));
  }

  put(recording) {
    this.recording = recording;
    this.part(".file-name").textContent = recording?.name ?? "Choose a recording";
    for (const button of this.box.querySelectorAll(".own .listen, .remove, .save")) button.hidden = !recording;
  }

  async useFile(file) {
    const seconds = await durationOf(file);
    if (seconds > this.limit) {
      return say(`${file.name} is ${clock(seconds)} long; at most ${span(this.limit)} are allowed.`, true);
    }
    say("");
    await this.use(file, file.name);
  }

  async toggleRecording() {
    if (this.recorder) return this.recorder.stop();
    hush();
    silence();
    this.recorder = new Recorder({
      limit: this.limit,
      ontick: (seconds) => (this.part(".timer").textContent = `${clock(seconds)} of ${clock(this.limit)}`),
      onend: (blob, seconds) => this.recorded(blob, seconds),
    });
    try {
      await this.recorder.start();
    } catch (error) {
      this.recorder = null;
      say(error.message, true);
    }
    this.showRecording();
  }

  recorded(blob, seconds) {
    this.recorder = null;
    this.showRecording();
    this.use(blob, `My recording (${length(seconds)})`);
  }

  showRecording() {
    this.part(".record").textContent = this.recorder ? "Stop recording" : "Record";
    this.part(".record").classList.toggle("recording", this.recorder !== null);
    this.part(".timer").hidden = !this.recorder;
  }

  // ------------------------------------------------------------------------------------------------ keeping

  snapshot() {
    return { value: this.wanted, transcript: this.part(".transcript").value };
  }

  restore({ value = DEFAULT, transcript = "" }) {
    this.part(".transcript").value = transcript;
    this.choose(value);
  }

  async recall() {
    const kept = await this.store.kept(this.name);
    if (kept) this.put(kept);
  }

  // ------------------------------------------------------------------------------------------------- events

  wire() {
    const on = (selector, kind, act) => this.part(selector).addEventListener(kind, act);
    on(".choice", "change", () => this.choose(this.value));
    on(".record", "click", () => this.toggleRecording());
    on(".remove", "click", () => this.use(null));
    on(".save", "click", () => saveDialog({ ...this.recording, transcript: this.transcript }, this));
    on(".known .forget", "click", () => forgetVoice(this.registered.id));
    on(".drop", "click", () => this.part(".file").click());
    on(".file", "change", () => this.part(".file").files[0] && this.useFile(this.part(".file").files[0]));
    listens(this.part(".known .listen"), () => sampleOf(this.registered.id));
    listens(this.part(".own .listen"), async () => this.recording.blob);
    for (const kind of ["dragover", "dragleave", "drop"]) on(".drop", kind, (event) => this.dragged(event));
  }

  dragged(event) {
    event.preventDefault();
    this.part(".drop").classList.toggle("over", event.type === "dragover");
    const file = event.type === "drop" ? event.dataTransfer.files[0] : null;
    if (file) this.useFile(file);
  }
}

/** Seconds of a recording; 0 where the browser cannot tell. The server looks again. */
function durationOf(file) {
  const audio = new Audio();
  const url = URL.createObjectURL(file);
  return new Promise((resolve) => {
    audio.addEventListener("loadedmetadata", () => resolve(Number.isFinite(audio.duration) ? audio.duration : 0));
    audio.addEventListener("error", () => resolve(0));
    audio.src = url;
  }).finally(() => URL.revokeObjectURL(url));
}
