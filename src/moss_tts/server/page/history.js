// What was spoken, the newest first: played again, used again, deleted.
import { $, confirmed, element, length, say } from "./dom.js";
import { silence } from "./preview.js";
import { MOST_BYTES, MOST_ENTRIES } from "./store.js";
import * as transport from "./transport.js";

const EXCERPT = 160;

let store = null;
let handlers = null;

/** Show what is kept. `onplay` and `onuse` are told of the entry whose button was pressed. */
export async function showHistory(opened, given) {
  [store, handlers] = [opened, given];
  const bound = `The newest ${MOST_ENTRIES}, up to ${MOST_BYTES / 2 ** 20} MB together, are kept`;
  $("history-hint").textContent = store.lasting ? `${bound} in this browser.` : `${bound} until this page is closed.`;
  await list();
}

async function list() {
  const entries = (await store.entries()).sort((one, other) => other.id - one.id);
  $("history").replaceChildren(...entries.map(item));
  $("clear-history").hidden = entries.length === 0;
}

/** What is kept of a speech beside its samples. */
export function entryOf({ player, text, settings, seed, reason, cues }) {
  const { rate, channels, seconds, frames } = player.pcm;
  return { text, settings, cues, seed, reason, rate, channels, seconds, bytes: 2 * frames * channels, time: Date.now() };
}

export async function remember(entry, player) {
  try {
    await store.add(entry, player.pcm.all().buffer);
  } catch {
    say(`${$("status").textContent} It could not be kept in the history, because the browser has no space left.`, true);
  }
  await list();
}

function item(entry) {
  const when = new Date(entry.time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  const cut = entry.reason === "stop" ? "" : " · not to its end";
  const text = entry.text.length > EXCERPT ? `${entry.text.slice(0, EXCERPT)}…` : entry.text;
  const button = (name, act) => {
    const made = element("button", { type: "button", className: "small", textContent: name, onclick: act });
    made.setAttribute("aria-label", `${name}: ${text.slice(0, 40)}`);
    return made;
  };
  return element(
    "li",
    {},
    element("p", { className: "said", dir: "auto", textContent: text }),
    element("p", { className: "hint", textContent: `${length(entry.seconds)} · seed ${entry.seed} · ${when}${cut}` }),
    element(
      "div",
      { className: "row" },
      button("Play", () => play(entry)),
      button("Use again", () => handlers.onuse(entry)),
      button("Delete", () => remove(entry)),
    ),
  );
}

async function play(entry) {
  if (transport.isRunning()) transport.stop();
  silence();
  const samples = await store.samples(entry.id);
  if (!samples) return say("This speech is no longer kept.", true);
  const player = transport.putOn(entry.rate, entry.channels);
  player.feed(new Uint8Array(samples));
  player.end();
  player.play();
  handlers.onplay(entry, player);
}

async function remove(entry) {
  await store.remove(entry.id);
  await list();
}

$("clear-history").addEventListener("click", async () => {
  if (!(await confirmed("Delete all speeches that this browser has kept?", "Delete all"))) return;
  await store.clear();
  await list();
});
