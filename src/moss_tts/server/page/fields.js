// The form: which fields there are, what they say, and what a request makes of them.
import { $, element, grouped, say } from "./dom.js";
import { offerAdapters, wantedWeights } from "./adapters.js";
import { areSeveral, chosen } from "./models.js";
import { Refusal } from "./server.js";
import { choices, voiceFields } from "./voice_choice.js";

const FORM = document.querySelector("#form");
const EVERY = "[data-text], [data-number], [data-adapter], [data-flag]";

let model = null;

const fieldsOf = (kind) => [...FORM.querySelectorAll(kind)];
const isShown = (field) => !field.closest("[hidden]");
const labelOf = (field) => field.labels[0].textContent.trim();

/** Show the fields that a model follows, with its own values where none is given. */
export function suit(loaded) {
  model = loaded;
  const { fields, defaults, limits, frame_rate: frameRate, language } = loaded;
  offerAdapters(loaded.adapters, defaults.adapters ?? {});
  for (const part of document.querySelectorAll("[data-needs]")) {
    part.hidden = !part.dataset.needs.split(" ").some((field) => fields.includes(field));
  }
  for (const field of fieldsOf("[data-number]")) if (field.name in defaults) field.placeholder = defaults[field.name];
  // Settings that a kind of model does not have.
  for (const field of fieldsOf("[data-number]")) {
    if (!field.closest("[data-needs]")) field.parentElement.hidden = field.name !== "seed" && !(field.name in defaults);
  }
  $("duration_s").max = limits.seconds ?? 3600;
  $("max_tokens").max = limits.frames / frameRate;
  if ("max_tokens" in defaults) $("max_tokens").placeholder = Math.min(defaults.max_tokens, limits.frames) / frameRate;
  offerLexicons(loaded.lexicons);
  const isDialogue = fields.includes("dialogue_speakers");
  $("tags").hidden = !isDialogue;
  // A voice is one speaker's, and of no use where no model follows one.
  $("save-result").hidden = isDialogue || !["reference", "instructions"].some((field) => fields.includes(field));
  const { label, placeholder } = prompt();
  $("input-label").textContent = label;
  $("input").placeholder = placeholder;
  $("model-note").textContent = language ? `This voice speaks ${language} only.` : "";
  $("model-note").hidden = !language;
  countCharacters();
}

function offerLexicons(names) {
  const none = element("option", { value: "", textContent: "none" });
  const kept = $("lexicon").value;
  $("lexicon").replaceChildren(none, ...names.map((name) => element("option", { value: name, textContent: name })));
  pick($("lexicon"), kept);
  $("lexicon-choice").hidden = names.length === 0;
}

/** Choose an option, or the first one where there is no such option. */
function pick(select, value) {
  select.value = value;
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

function prompt() {
  if (model.prompt_field === "ambient_sound") return { label: "Sound", placeholder: "Rain on a tin roof" };
  if (model.fields.includes("dialogue_speakers")) {
    return { label: "Script", placeholder: "[S1] Is it raining? [S2] Not any more." };
  }
  return { label: "Text", placeholder: "Write what to speak" };
}

export function countCharacters() {
  const [length, most] = [$("input").value.length, model?.limits.characters ?? Infinity];
  $("characters").textContent = most < Infinity ? `${grouped(length)} of ${grouped(most)} characters. ` : "";
  $("characters").classList.toggle("bad", length > most);
}

// ------------------------------------------------------------------------------------------------- request

/** The request, as fetch takes it. */
export function body() {
  check();
  const fields = { response_format: "pcm", stream_format: "sse", verbose: true };
  if (areSeveral()) fields.model = model.id;
  // Sounds are made as a whole, and have no segments.
  if ("streaming_interval" in model.defaults) Object.assign(fields, { streaming_interval: 0.24, timestamps: "segment" });
  fields[model.prompt_field] = $("input").value;
  for (const field of fieldsOf("[data-text]")) {
    if (field !== $("input") && isShown(field) && field.value.trim()) fields[field.name] = field.value;
  }
  for (const field of fieldsOf("[data-number]")) if (isWanted(field)) fields[field.name] = amount(field);
  for (const field of fieldsOf("[data-flag]")) if (isShown(field) && field.checked) fields[field.name] = true;
  const adapters = wantedWeights();
  if (adapters) fields.adapters = adapters;
  const { own, files } = voiceFields();
  if (own.dialogue_speakers && !/\[S\d+\]/.test($("input").value)) {
    throw new Refusal("Begin each turn of the script with [S1] or [S2].", at("input"));
  }
  return sendable({ ...fields, ...own }, files);
}

const isWanted = (field) => isShown(field) && field.value !== "";

/** Lengths are seconds for people and frames for the server. */
function amount(field) {
  const number = Number(field.value);
  return "frames" in field.dataset ? Math.max(1, Math.round(number * model.frame_rate)) : number;
}

/** Recordings travel as files, everything else as JSON. */
function sendable(fields, files) {
  if (!Object.keys(files).length) {
    return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) };
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    form.append(name, typeof value === "object" ? JSON.stringify(value) : value);
  }
  for (const [name, { blob, name: fileName }] of Object.entries(files)) form.append(name, blob, fileName);
  return { method: "POST", body: form };
}

function check() {
  if (!model) throw new Refusal("The server has not answered yet. Reload this page.");
  if (!$("input").value.trim()) throw new Refusal("There is nothing to speak yet. Write something first.", at("input"));
  const numbers = fieldsOf("[data-number], [data-adapter]");
  for (const field of numbers) if (isShown(field) && !field.validity.valid) throw outOfRange(field);
}

const at = (name) => ({ field: name });

function outOfRange(field) {
  const { min, max, step, validity } = field;
  if (validity.badInput) return new Refusal(`${labelOf(field)}: this is not a number.`, at(field.name));
  const whole = step === "1" ? "a whole number " : "";
  return new Refusal(`${labelOf(field)} must be ${whole}from ${min} to ${max}.`, at(field.name));
}

/** Say what is wrong, by the names that the page has for things, and go there. */
export function complain(error) {
  if (error.status === 401) $("key-form").hidden = false;
  const field = error.field && FORM.elements[error.field === model?.prompt_field ? "input" : error.field];
  if (!field?.labels || !isShown(field)) return say(error.message, true);
  const message = error.message.replace(new RegExp(`^${error.field}\\b`), labelOf(field));
  say(message, true);
  mark(field, message);
  if (field.closest("details")) field.closest("details").open = true;
  field.focus();
}

/** The message beside a field too, until the field changes: the status may be out of sight. */
function mark(field, message) {
  const note = element("p", { className: "bad", id: `${field.id}-error`, textContent: message });
  document.getElementById(note.id)?.remove();
  field.after(note);
  field.setAttribute("aria-invalid", "true");
  describe(field, (ids) => ids.add(note.id));
  field.addEventListener("input", () => unmark(field, note), { once: true });
}

function unmark(field, note) {
  note.remove();
  field.removeAttribute("aria-invalid");
  describe(field, (ids) => ids.delete(note.id));
}

/** Change what screen readers read out with a field. */
function describe(field, change) {
  const ids = new Set((field.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean));
  change(ids);
  field.setAttribute("aria-describedby", [...ids].join(" "));
}

// ------------------------------------------------------------------------------------------------- keeping

/** All that the form says, but for recordings. */
export function snapshot() {
  const values = Object.fromEntries(fieldsOf(EVERY).map((field) => [field.id, field.type === "checkbox" ? field.checked : field.value]));
  return { ...values, model: chosen()?.id, format: $("format").value, voices: choices().map((choice) => choice.snapshot()) };
}

export function restore(kept) {
  for (const field of fieldsOf(EVERY)) {
    if (field.type === "checkbox") field.checked = kept[field.id] === true;
    else if (field.tagName === "SELECT") pick(field, kept[field.id] ?? "");
    else field.value = kept[field.id] ?? "";
  }
  if (kept.format) $("format").value = kept.format;
  choices().forEach((choice, index) => choice.restore(kept.voices?.[index] ?? {}));
  countCharacters();
}

/** Settings as they were at first; the text stays. */
export function reset() {
  restore({ input: $("input").value, format: $("format").value });
}

/** Put a tag of a speaker where the cursor is. */
export function insertTag(tag) {
  const { selectionStart: start, value } = $("input");
  const before = value.slice(0, start);
  const space = before && !/\s$/.test(before) ? " " : "";
  $("input").setRangeText(`${space}${tag} `, start, $("input").selectionEnd, "end");
  $("input").dispatchEvent(new Event("input", { bubbles: true }));
  $("input").focus();
}
