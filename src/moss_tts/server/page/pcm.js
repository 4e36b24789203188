// 16-bit samples: as a WAV, and as a picture.

const BYTES = 2;
// Peaks a second: the picture is drawn from them, however long the speech is.
const PEAKS = 100;
const QUIET = 0.1;

/** Samples as they come in, with their peaks. */
export class Pcm {
  constructor(rate, channels) {
    Object.assign(this, { rate, channels, parts: [], frames: 0, peaks: [] });
    this.rest = new Uint8Array(0);
    this.window = Math.round(rate / PEAKS) * channels;
    this.inWindow = 0;
  }

  get seconds() {
    return this.frames / this.rate;
  }

  /** Bytes may end in the middle of a sample. */
  append(bytes) {
    const joined = new Uint8Array(this.rest.length + bytes.length);
    joined.set(this.rest);
    joined.set(bytes, this.rest.length);
    const whole = joined.length - (joined.length % (BYTES * this.channels));
    this.rest = joined.slice(whole);
    const part = new Int16Array(joined.buffer.slice(0, whole));
    this.parts.push({ at: this.frames, part });
    this.frames += part.length / this.channels;
    this.#measure(part);
  }

  #measure(part) {
    for (const sample of part) {
      if (this.inWindow === 0) this.peaks.push(0);
      const last = this.peaks.length - 1;
      this.peaks[last] = Math.max(this.peaks[last], Math.abs(sample) / 32768);
      this.inWindow = (this.inWindow + 1) % this.window;
    }
  }

  /** Frames from one place to another, channels interleaved. */
  slice(from, to) {
    const cut = new Int16Array((to - from) * this.channels);
    for (const { at, part } of this.#partsBetween(from, to)) {
      const end = at + part.length / this.channels;
      const [start, stop] = [Math.max(from, at), Math.min(to, end)];
      const piece = part.subarray((start - at) * this.channels, (stop - at) * this.channels);
      cut.set(piece, (start - from) * this.channels);
    }
    return cut;
  }

  *#partsBetween(from, to) {
    for (let index = this.#indexOf(from); index < this.parts.length && this.parts[index].at < to; index += 1) {
      yield this.parts[index];
    }
  }

  /** The last part that begins at a frame or before it. */
  #indexOf(frame) {
    let [low, high] = [0, this.parts.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.parts[middle].at <= frame) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  all() {
    return this.slice(0, this.frames);
  }
}

export function toWav(pcm, rate, channels) {
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, index) => header.setUint8(at + index, letter.charCodeAt(0)));
  const block = channels * BYTES;
  text(0, "RIFF");
  header.setUint32(4, 36 + pcm.byteLength, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, channels, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, rate * block, true);
  header.setUint16(32, block, true);
  header.setUint16(34, 8 * BYTES, true);
  text(36, "data");
  header.setUint32(40, pcm.byteLength, true);
  return new Blob([header, pcm], { type: "audio/wav" });
}

/** One bar for each few pixels; what has been heard is in the accent's colour. */
export function drawWave(canvas, peaks, heard) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * scale, canvas.clientHeight * scale].map(Math.round);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const bar = 3 * scale;
  const count = Math.floor(width / bar);
  // Quiet speech fills the picture as well; near silence does not.
  const loudest = peaks.reduce((most, peak) => Math.max(most, peak), QUIET);
  pen.clearRect(0, 0, width, height);
  for (let index = 0; index < count; index += 1) {
    const [from, to] = [index, index + 1].map((place) => Math.floor((place * peaks.length) / count));
    let peak = 0;
    for (let at = from; at < Math.max(to, from + 1); at += 1) peak = Math.max(peak, peaks[at] ?? 0);
    const tall = Math.max(scale, (peak / loudest) * height);
    pen.fillStyle = (index + 0.5) / count <= heard ? style.color : style.borderTopColor;
    pen.fillRect(index * bar, (height - tall) / 2, bar - scale, tall);
  }
}
