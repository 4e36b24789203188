// The times of the segments of a speech as a file of subtitles.

const two = (number) => String(number).padStart(2, "0");

/** Seconds as 00:01:02,345. */
function time(seconds, mark) {
  const ms = Math.round(seconds * 1000);
  const [hours, minutes, rest] = [Math.floor(ms / 3_600_000), Math.floor(ms / 60_000) % 60, Math.floor(ms / 1000) % 60];
  return `${two(hours)}:${two(minutes)}:${two(rest)}${mark}${String(ms % 1000).padStart(3, "0")}`;
}

const span = ({ start, end }, mark) => `${time(start, mark)} --> ${time(end, mark)}`;
const escaped = (text) => text.replaceAll("-->", "→").replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const FORMS = {
  srt: (cues) => cues.map((cue, index) => `${index + 1}\n${span(cue, ",")}\n${cue.text.replaceAll("-->", "→")}\n`).join("\n"),
  vtt: (cues) => ["WEBVTT\n", ...cues.map((cue) => `${span(cue, ".")}\n${escaped(cue.text)}\n`)].join("\n"),
};

export const isSubtitles = (format) => format in FORMS;

/** Cues, as the server tells of them, as a file. */
export const toSubtitles = (cues, format) => new Blob([FORMS[format](cues)], { type: "text/plain;charset=utf-8" });
