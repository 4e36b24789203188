// Plays the segment of a link, up to its end; the same link stops it.
const player = new Audio();
let playing = null, end = 0;
function stop() {
  player.pause();
  if (playing) playing.textContent = "▶";
  playing = null;
}
player.addEventListener("timeupdate", () => { if (player.currentTime >= end) stop(); });
player.addEventListener("ended", stop);
player.addEventListener("error", () => {
  if (playing) playing.closest("td").title = "The audio file is not beside this page.";
  stop();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.play");
  if (!link) return;
  event.preventDefault();
  const again = link === playing;
  stop();
  if (again) return;
  const [file, times] = link.href.split("#t=");
  const [start, last] = times.split(",").map(Number);
  playing = link;
  end = last;
  link.textContent = "■";
  if (player.src !== file) player.src = file;
  player.currentTime = start;
  player.play().catch(() => {});
});
