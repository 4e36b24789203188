// One request for speech: it is sent, heard while it comes in, and told of in words.
import { $, plural, say } from "./dom.js";
import { body, complain, snapshot } from "./fields.js";
import { follow } from "./models.js";
import { Refusal, ask, bytes, events } from "./server.js";
import { wake } from "./player.js";
import * as transport from "./transport.js";

const INTERVAL = 0.24;
const ENDS = {
  stop: () => "",
  length: () => "The speech was cut off, because it reached the longest length that is allowed (see More settings).",
  silence: () => "The speech was ended, because the model stayed silent.",
  cancelled: () => "It was stopped.",
};

/** Speak what the form asks for, and hand the result to `keep`. */
export async function speak(model, keep) {
  if (transport.isRunning()) return;
  let request;
  try {
    request = body();
  } catch (error) {
    return complain(error);
  }
  wake(model.sample_rate);
  const running = new AbortController();
  transport.begin(running);
  $("keep").hidden = true;
  say("Waiting for the first sound…");
  const speech = { text: $("input").value, settings: snapshot(), cues: [], seed: null, reason: null, warning: "", first: null };
  await tell(speech, request, running.signal);
  if (speech.player?.seconds) await keep(speech);
}

async function tell(speech, request, signal) {
  const [started, answered] = [performance.now(), new AbortController()];
  try {
    follow(tellLoading, answered.signal);
    const response = await ask("v1/audio/speech", { ...request, signal }).finally(() => answered.abort());
    await receive(speech, response, started);
    transport.end();
    say(summary(speech));
  } catch (error) {
    transport.end();
    report(error, speech);
  } finally {
    showProgress(null);
  }
}

async function receive(speech, response, started) {
  const header = (name) => response.headers.get(name);
  Object.assign(speech, { seed: Number(header("X-Seed")), warning: unescaped(header("X-Warning") ?? "") });
  for await (const event of events(response)) {
    if (event.type === "error") throw new Refusal(event.error.message);
    if (event.type === "speech.audio.done") {
      speech.reason = event.finish_reason;
      return;
    }
    if (event.type === "speech.segment") {
      speech.cues.push({ start: event.start, end: event.end, text: event.text });
      continue;
    }
    if (event.type === "speech.audio.progress") {
      say("Making the sound.");
      showProgress(event.progress);
      continue;
    }
    if (!speech.player) {
      speech.player = transport.putOn(Number(header("X-Sample-Rate")), Number(header("X-Channels")));
      speech.first = (performance.now() - started) / 1000;
      speech.player.play();
      say("Speaking.");
    }
    speech.player.feed(bytes(event.audio));
    transport.grown();
    showProgress(event.progress ?? null, speech.text.length);
  }
  throw new Refusal("The connection to the server was lost.");
}

function tellLoading({ id, state }, share) {
  const far = share === null ? "" : ` (${Math.floor(share * 100)} %)`;
  say(state === "loading" ? `The model ${id} is being loaded${far}.` : `Waiting for room for the model ${id}.`);
}

/** Headers are ASCII: other characters are written as Python writes them. */
function unescaped(text) {
  return text.replace(/\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))/g, (_, two, four, eight) =>
    String.fromCodePoint(parseInt(two ?? four ?? eight, 16)),
  );
}

function showProgress(share, characters = 0) {
  $("progress").hidden = share === null;
  $("progress").value = share ?? 0;
  const left = Math.ceil(characters * (1 - share));
  const rest = characters ? ` · ${plural(left, "character")} left` : "";
  $("ready").textContent = share === null ? "" : `${Math.floor(share * 100)} % ready${rest}`;
}

function summary({ player, first, seed, reason, warning }) {
  const made = `Done: ${player.seconds.toFixed(1)} s of speech, the first sound after ${first.toFixed(1)} s, seed ${seed}.`;
  return [made, ENDS[reason](), warning].filter(Boolean).join(" ");
}

/** What a request failed with; what had come of it stays. */
function report(error, { player }) {
  const there = player?.seconds ? ` ${player.seconds.toFixed(1)} s are ready.` : "";
  if (error.name === "AbortError") say(`Stopped.${there}`);
  else complain(Object.assign(error, { message: `${error.message}${there}` }));
}

