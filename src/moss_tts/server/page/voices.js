// The registered voices of the server: listed, listened to, saved under a name that may be one, deleted.
import { $, confirmed, say } from "./dom.js";
import { ask } from "./server.js";

const MOST_LETTERS = 64;
// Letters that do not fall apart into an English one and a mark.
const LETTERS = { ß: "ss", æ: "ae", œ: "oe", ø: "o", đ: "d", ð: "d", ł: "l", þ: "th", ı: "i" };
const PATH = "v1/audio/voices";

let known = [];
let offered = () => {};
let saving = null;

/** Tell `offer` of the voices, now and whenever they change. */
export async function loadVoices(offer = offered) {
  offered = offer;
  known = (await (await ask(PATH)).json()).data;
  offered(known);
}

export async function sampleOf(name) {
  return (await ask(`${PATH}/${encodeURIComponent(name)}/sample`)).blob();
}

export async function forgetVoice(name) {
  if (!(await confirmed(`Delete the voice ${name} from the server? It cannot be brought back.`, "Delete"))) return;
  try {
    await ask(`${PATH}/${encodeURIComponent(name)}`, { method: "DELETE" });
    await loadVoices();
    say(`The voice ${name} is deleted.`);
  } catch (error) {
    say(error.message, true);
  }
}

// --------------------------------------------------------------------------------------------------- names

/** The nearest name that the server takes: a-z, 0-9, - and _, a letter or digit first. */
export function corrected(name) {
  const letters = [...name.normalize("NFKC").toLowerCase()].map((letter) => LETTERS[letter] ?? letter).join("");
  const plain = letters.normalize("NFD").replace(/\p{M}/gu, "").replace(/[^a-z0-9_-]+/g, "-");
  const nearest = plain.replace(/^[-_]+|-+$/g, "").slice(0, MOST_LETTERS);
  return !nearest ? "voice" : nearest === "default" ? "default-voice" : nearest;
}

const isTaken = (name) => known.some(({ id }) => id === name);

/** The first name like it that no voice has. */
function free(name) {
  let next = name;
  for (let number = 2; isTaken(next); number += 1) {
    const end = `-${number}`;
    next = name.slice(0, MOST_LETTERS - end.length) + end;
  }
  return next;
}

/** The name that the dialog would save under. */
function chosenName() {
  const name = corrected($("voice-name").value);
  return $("replace").checked ? name : free(name);
}

function showName() {
  const [typed, name] = [$("voice-name").value.trim(), corrected($("voice-name").value)];
  $("replace-row").hidden = !isTaken(name);
  const chosen = chosenName();
  const why = isTaken(name) && chosen !== name ? `There is a voice ${name} already. ` : "";
  $("name-hint").textContent = typed === chosen ? "" : `${why}It will be saved as ${chosen}.`;
}

// -------------------------------------------------------------------------------------------------- saving

/** Ask for a name, and save a recording under it. Nothing that was typed is lost where the server refuses. */
export function saveDialog({ blob, name = "", transcript = "", description = "" }, choice) {
  saving = { blob, name, choice };
  $("voice-name").value = "";
  $("voice-transcript").value = transcript;
  $("voice-description").value = description;
  $("replace").checked = false;
  $("save-error").textContent = "";
  showName();
  $("save-dialog").showModal();
}

async function save(event) {
  event.preventDefault();
  const [name, typed] = [chosenName(), $("voice-name").value.trim()];
  $("save-voice").disabled = true;
  try {
    await ask(PATH, { method: "POST", body: form(name, typed) });
    $("save-dialog").close();
    await loadVoices();
    saving.choice?.choose(`voice:${name}`);
    say(`The voice ${name} is saved.`);
  } catch (error) {
    $("save-error").textContent = error.message;
  } finally {
    $("save-voice").disabled = false;
  }
}

function form(name, typed) {
  const made = new FormData();
  made.append("name", name);
  made.append("audio_sample", saving.blob, saving.name || "recording");
  if ($("replace").checked && isTaken(name)) made.append("replace", "true");
  const transcript = $("voice-transcript").value.trim();
  // A name in other letters is not lost: it describes the voice.
  const description = $("voice-description").value.trim() || (typed.toLowerCase() === name ? "" : typed);
  if (transcript) made.append("transcript", transcript);
  if (description) made.append("description", description);
  return made;
}

$("voice-name").addEventListener("input", showName);
$("replace").addEventListener("change", showName);
$("save-form").addEventListener("submit", save);
$("save-cancel").addEventListener("click", () => $("save-dialog").close());
