// The speech that is on: its buttons, its bar, its picture. They work until the last sample was heard.
import { $, clock, length } from "./dom.js";
import { drawWave } from "./pcm.js";
import { Player } from "./player.js";

// Milliseconds between two looks at where the sound is.
const LOOK = 60;

let player = null;
let running = null; // the request that the speech comes from, while it comes
let looked = 0;
let looking = false;

export const current = () => player;
export const isRunning = () => running !== null;

/** Put a speech on; the one before it ends. `abort` ends the request that it comes from. */
export function putOn(rate, channels) {
  player?.stop();
  player = new Player(rate, channels);
  player.onchange = update;
  update();
  return player;
}

/** A request begins; `end` is to be called when it is over. */
export function begin(request) {
  player?.stop();
  running = request;
  update();
}

export function end() {
  running = null;
  player?.end();
  update();
}

/** End the request and the sound, whichever there is. */
export function stop() {
  running?.abort();
  player?.stop();
  update();
}

/** Other sounds of the page begin: this one waits. */
export function hush() {
  if (player?.playing) player.pause();
}

function toggle() {
  if (player.playing) player.pause();
  else player.play();
}

/** Between its ends, a speech that does not play is only paused. */
const isPaused = () => player !== null && !player.playing && player.position > 0 && !player.over;

function update() {
  const there = player !== null && player.seconds > 0;
  $("speak").disabled = running !== null;
  $("pause").disabled = !there;
  $("pause").textContent = there && !player.playing ? "Play" : "Pause";
  $("stop").disabled = running === null && !player?.playing && !isPaused();
  $("seek").disabled = !there;
  look();
}

/** Show where the sound is, again and again while it moves. */
function look(now = 0) {
  if (now - looked >= LOOK || !player?.playing) {
    looked = now;
    show();
  }
  if (!player?.playing || looking) return;
  looking = true;
  requestAnimationFrame((next) => {
    looking = false;
    look(next);
  });
}

function show() {
  const [position, seconds] = player ? [player.position, player.seconds] : [0, 0];
  $("seek").max = seconds || 1;
  $("seek").value = position;
  const [at, of] = [position, seconds].map(seconds < 10 ? length : clock);
  $("seek").setAttribute("aria-valuetext", `${at} of ${of}`);
  $("position").textContent = at;
  $("length").textContent = of;
  drawWave($("wave"), player?.pcm.peaks ?? [], seconds ? position / seconds : 0);
}

/** More samples are there. */
export const grown = update;

$("pause").addEventListener("click", toggle);
$("stop").addEventListener("click", stop);
$("seek").addEventListener("input", () => player?.seek(Number($("seek").value)));
$("seek").addEventListener("keydown", (event) => {
  const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  if (!way || !player) return;
  event.preventDefault();
  player.seek(player.position + way * Math.max(0.2, player.seconds / 20));
});
new ResizeObserver(show).observe($("wave"));
