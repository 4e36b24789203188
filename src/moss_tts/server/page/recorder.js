// The microphone: a recording with a limit, and the time it has taken.

// The server measures recordings a little longer than the clock here.
const MARGIN = 0.5;
const TICK = 200;

/** Why there is no microphone, in words for people. */
function reason(error) {
  if (error.name === "NotAllowedError") return "The microphone is not allowed here. Allow it in the browser's settings.";
  if (error.name === "NotFoundError") return "There is no microphone.";
  return `The microphone cannot be used: ${error.message}`;
}

/** Records until `stop` is called or the limit, in seconds, is reached. `ontick` is told of the seconds so far. */
export class Recorder {
  constructor({ limit, ontick, onend }) {
    Object.assign(this, { limit: limit - MARGIN, ontick, onend });
  }

  async start() {
    if (!navigator.mediaDevices || !window.MediaRecorder) {
      throw new Error("This browser records only on this machine itself or over https. Choose a file instead.");
    }
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true }).catch((error) => {
      throw new Error(reason(error));
    });
    const parts = [];
    const recorder = (this.recorder = new MediaRecorder(stream));
    recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
    recorder.addEventListener("stop", () => this.#end(stream, parts));
    recorder.start();
    this.started = performance.now();
    this.ontick(0);
    this.timer = setInterval(() => this.#tick(), TICK);
  }

  get seconds() {
    return (performance.now() - this.started) / 1000;
  }

  #tick() {
    this.ontick(this.seconds);
    if (this.seconds >= this.limit) this.stop();
  }

  stop() {
    if (this.recorder.state !== "inactive") this.recorder.stop();
  }

  #end(stream, parts) {
    clearInterval(this.timer);
    for (const track of stream.getTracks()) track.stop();
    this.onend(new Blob(parts, { type: this.recorder.mimeType }), this.seconds);
  }
}
