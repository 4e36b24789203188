// Recordings that are listened to beside the speech: one at a time, and the speech waits.
import { say } from "./dom.js";
import { hush } from "./transport.js";

const audio = new Audio();
let button = null;

/** A button that plays what `load` gives, a Blob, and stops it again. */
export function listens(pressed, load) {
  const name = pressed.textContent;
  pressed.addEventListener("click", async () => {
    if (button === pressed) return silence();
    silence();
    try {
      play(pressed, name, await load());
    } catch (error) {
      say(error.message, true);
    }
  });
}

async function play(pressed, name, blob) {
  hush();
  audio.src = URL.createObjectURL(blob);
  button = Object.assign(pressed, { textContent: "Stop listening", was: name });
  await audio.play().catch((error) => {
    if (error.name === "AbortError") return;
    silence();
    say("This browser cannot play the recording.", true);
  });
}

export function silence() {
  if (!button) return;
  button.textContent = button.was;
  button = null;
  audio.pause();
  URL.revokeObjectURL(audio.src);
  audio.removeAttribute("src");
}

audio.addEventListener("ended", silence);
