// Requests to the server, and what goes wrong with them in words for people.

const KEY = "moss-tts-key";
const SILENT = "The server does not answer. Is it still running?";
const CUT = "The connection to the server was lost.";

// What the page calls fields of requests that it has no field of that name for.
const PARTS = {
  reference: "The recording",
  ref_audio: "The recording",
  audio_sample: "The recording",
  dialogue_speakers: "A speaker",
};

/** An answer that is an error, or none at all. */
export class Refusal extends Error {
  constructor(message, { status = 0, field = null, code = null } = {}) {
    super(message);
    Object.assign(this, { status, field, code });
  }
}

let key = recalled();

function recalled() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

export function useKey(given) {
  key = given.trim();
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Without storage the key lasts until the page is left.
  }
}

/** An answer that is good. */
export async function ask(path, options = {}) {
  const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    throw inWords(error, SILENT);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** Errors of the network have words of the browser's, which say nothing to people. */
function inWords(error, words) {
  return error.name === "AbortError" ? error : new Refusal(words);
}

async function refusal(response) {
  const error = (await response.json().catch(() => null))?.error ?? {};
  const { status } = response;
  const message = words(status, error, response.headers.get("Retry-After"));
  return new Refusal(message, { status, field: error.param ?? null, code: error.code ?? null });
}

function words(status, error, wait) {
  if (status === 401) return key ? "This is not the key of the server." : "This server needs a key.";
  if (status === 503 && error.code === "stopping") return "The server is stopping. Try again later.";
  if (status === 503) return `The server is busy. Try again in ${wait ?? "a few"} seconds.`;
  if (status === 504) return "The server stopped the request, because it took too long.";
  if (status === 500) return "The server failed. Its log says more.";
  if (status === 413) return "The request is larger than the server allows.";
  const name = PARTS[error.param];
  const message = name ? error.message?.replace(new RegExp(`^${error.param}:`), `${name}:`) : error.message;
  return message ?? `The server answered with error ${status}.`;
}

/** The events of a stream as they come. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw inWords(error, CUT);
    });
    if (done) return;
    const complete = (rest + value).split("\n\n");
    rest = complete.pop();
    for (const event of complete) yield JSON.parse(event.slice("data: ".length));
  }
}

/** The bytes of base64. */
export function bytes(text) {
  return Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
