// Small things that every part of the page needs.

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** The one line that tells people what happens; screen readers read it out. */
export function say(message, bad = false) {
  $("status").textContent = message;
  $("status").classList.toggle("bad", bad);
}

/** 75 seconds are 1:15. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** How long something is: tenths where it is short. */
export const length = (seconds) => (seconds < 10 ? `${seconds.toFixed(1)} s` : clock(seconds));

export const grouped = (number) => Math.round(number).toLocaleString("en");

export const plural = (number, word) => `${grouped(number)} ${word}${Math.round(number) === 1 ? "" : "s"}`;

/** A limit in words: 2 minutes, 90 seconds. */
export const span = (seconds) => (seconds % 60 ? plural(seconds, "second") : plural(seconds / 60, "minute"));

/** Asks before something is lost. */
export function confirmed(question, action) {
  $("confirm-question").textContent = question;
  $("confirm-yes").textContent = action;
  $("confirm").returnValue = "";
  $("confirm").showModal();
  return new Promise((resolve) => {
    $("confirm").addEventListener("close", () => resolve($("confirm").returnValue === "yes"), { once: true });
  });
}

/** Hands a file to the browser's downloads. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
