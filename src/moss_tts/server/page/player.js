// Plays samples while they come in: without gaps, from any place, and only as long as it is told to.
import { Pcm } from "./pcm.js";

// Seconds that are handed to the device at a time, and ahead of what is heard: memory stays small however long it is.
const PIECE = 5;
const AHEAD = 20;
// Seconds that a late piece waits, so that the one behind it comes in time.
const LATE = 0.06;

let context = null;
let players = 0;

/** Browsers let a page make sound once somebody has pressed something: this is called then. */
export function wake(rate) {
  context ??= new AudioContext({ sampleRate: rate });
  context.resume();
}

function rest() {
  if (players === 0) context.suspend();
}

/** One speech. `playing` is true until its last sample was heard, or somebody stopped it. */
export class Player {
  constructor(rate, channels) {
    this.pcm = new Pcm(rate, channels);
    this.playing = false;
    this.whole = false;
    this.onchange = () => {};
  }

  #from = 0; // frame that is heard where nothing is handed over
  #next = 0; // frame to hand over next
  #when = 0; // when that will be heard, by the context's clock
  #runs = []; // pieces handed over: when each begins, its first frame, its frames
  #sources = new Set();

  get seconds() {
    return this.pcm.seconds;
  }

  get position() {
    return this.#frame() / this.pcm.rate;
  }

  /** Whether all of it has been heard. */
  get over() {
    return this.whole && !this.playing && this.#frame() >= this.pcm.frames;
  }

  feed(bytes) {
    this.pcm.append(bytes);
    this.#pump();
  }

  /** There will be no more samples. */
  end() {
    this.whole = true;
    this.#settle();
  }

  play() {
    if (this.playing) return;
    wake(this.pcm.rate);
    players += 1;
    this.playing = true;
    if (this.whole && this.#from >= this.pcm.frames) this.#from = 0;
    this.#begin();
    this.onchange();
  }

  pause() {
    this.#halt(this.#frame());
  }

  stop() {
    this.#halt(0);
  }

  seek(seconds) {
    const frame = Math.round(Math.min(Math.max(seconds, 0), this.seconds) * this.pcm.rate);
    this.#silence();
    this.#from = frame;
    if (this.playing) this.#begin();
    this.onchange();
  }

  #halt(frame) {
    this.#silence();
    this.#from = frame;
    if (this.playing) {
      this.playing = false;
      players -= 1;
      rest();
    }
    this.onchange();
  }

  #silence() {
    for (const source of this.#sources) {
      source.onended = null;
      source.stop();
    }
    this.#sources.clear();
    this.#runs = [];
  }

  #begin() {
    this.#next = this.#from;
    this.#when = 0;
    this.#pump();
    this.#settle();
  }

  /** Hand over what is there, as far as it is wanted already. */
  #pump() {
    if (!this.playing) return;
    const { frames, rate } = this.pcm;
    while (this.#next < frames && this.#when < context.currentTime + AHEAD) {
      if (this.#when < context.currentTime) this.#when = context.currentTime + LATE;
      this.#handOver(Math.min(frames, this.#next + PIECE * rate));
    }
  }

  #handOver(end) {
    const { rate } = this.pcm;
    const source = context.createBufferSource();
    source.buffer = this.#buffer(this.#next, end);
    source.connect(context.destination);
    source.onended = () => {
      this.#sources.delete(source);
      this.#pump();
      this.#settle();
    };
    source.start(this.#when);
    this.#sources.add(source);
    this.#runs.push({ when: this.#when, first: this.#next, frames: end - this.#next });
    this.#when += (end - this.#next) / rate;
    this.#next = end;
  }

  #buffer(from, to) {
    const { rate, channels } = this.pcm;
    const pcm = this.pcm.slice(from, to);
    const buffer = context.createBuffer(channels, to - from, rate);
    for (let channel = 0; channel < channels; channel += 1) {
      const samples = buffer.getChannelData(channel);
      for (let frame = 0; frame < samples.length; frame += 1) samples[frame] = pcm[frame * channels + channel] / 32768;
    }
    return buffer;
  }

  /** It is over once the last sample was heard. */
  #settle() {
    if (this.playing && this.whole && !this.#sources.size && this.#next >= this.pcm.frames) this.#halt(this.pcm.frames);
  }

  #frame() {
    let frame = this.#from;
    while (this.#runs.length > 1 && this.#runs[1].when <= context.currentTime) this.#runs.shift();
    for (const { when, first, frames } of this.#runs) {
      const heard = Math.round((context.currentTime - when) * this.pcm.rate);
      if (heard >= 0) frame = first + Math.min(frames, heard);
    }
    return frame;
  }
}
