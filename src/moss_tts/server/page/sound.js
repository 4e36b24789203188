// PCM as it comes in: played without gaps, drawn, and kept as a WAV.

const BYTES = 2;

/** Plays 16-bit PCM, each piece right behind the one before. */
export class Player {
  constructor(rate, channels) {
    this.rate = rate;
    this.channels = channels;
    this.parts = [];
    this.left = new Uint8Array(0);
    this.context = new AudioContext();
    this.next = 0;
    this.frames = 0;
  }

  get seconds() {
    return this.frames / this.rate;
  }

  /** Bytes may end in the middle of a sample. */
  feed(bytes) {
    const joined = new Uint8Array(this.left.length + bytes.length);
    joined.set(this.left);
    joined.set(bytes, this.left.length);
    const whole = joined.length - (joined.length % (BYTES * this.channels));
    this.left = joined.slice(whole);
    if (whole === 0) return;
    const pcm = new Int16Array(joined.buffer.slice(0, whole));
    this.parts.push(pcm);
    this.frames += pcm.length / this.channels;
    this.#play(pcm);
  }

  #play(pcm) {
    const frames = pcm.length / this.channels;
    const buffer = this.context.createBuffer(this.channels, frames, this.rate);
    for (let channel = 0; channel < this.channels; channel += 1) {
      const samples = buffer.getChannelData(channel);
      for (let frame = 0; frame < frames; frame += 1) samples[frame] = pcm[frame * this.channels + channel] / 32768;
    }
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    // A late piece starts now, with room for the next one to come in time.
    if (this.next < this.context.currentTime) this.next = this.context.currentTime + 0.05;
    source.start(this.next);
    this.next += buffer.duration;
  }

  pcm() {
    const joined = new Int16Array(this.frames * this.channels);
    let at = 0;
    for (const part of this.parts) {
      joined.set(part, at);
      at += part.length;
    }
    return joined;
  }

  samples() {
    return this.pcm();
  }

  stop() {
    if (this.context.state !== "closed") this.context.close();
  }
}

/** The loudest sample of each column. */
export function drawWave(canvas, pcm) {
  const { width, height } = canvas;
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = getComputedStyle(canvas).color;
  const step = Math.max(1, pcm.length / width);
  for (let column = 0; column < width && column * step < pcm.length; column += 1) {
    let peak = 0;
    const end = Math.min(pcm.length, Math.ceil((column + 1) * step));
    for (let at = Math.floor(column * step); at < end; at += 1) peak = Math.max(peak, Math.abs(pcm[at]));
    const tall = Math.max(1, (peak / 32768) * height);
    pen.fillRect(column, (height - tall) / 2, 1, tall);
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
