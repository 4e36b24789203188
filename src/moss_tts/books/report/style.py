"""The style sheet of a report: light and dark as the reader's system is; nothing is told by colour alone."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2330; --soft: #5a6372; --line: #d5dae3; --even: #e8eef9;
  --odd: #f5f7fb; --wave: #2458b8; --flag: #b3400a; --slow: #9a6b00; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171d; --ink: #e6e9ef; --soft: #a2acbb; --line: #343b48;
  --even: #202a3c; --odd: #191e28; --wave: #86b0ff; --flag: #ff9a5c; --slow: #e2b84d; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, figcaption, dt { color: var(--soft); } p { margin: 0 0 .5rem; }
.totals { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .5rem; margin: 0; }
.totals div { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .75rem; }
dt { font-size: .85rem; } dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
figure { display: grid; grid-template-columns: 4.5rem 1fr; align-items: center; margin: 0 0 .35rem; }
figcaption { font-size: .85rem; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: 5rem; display: block; overflow: visible; }
.even { fill: var(--even); } .odd { fill: var(--odd); } .wave { fill: var(--wave); pointer-events: none; }
a:hover rect, a:focus-visible rect { stroke: var(--ink); stroke-width: 2; vector-effect: non-scaling-stroke; }
.seam { stroke: var(--soft); fill: none; vector-effect: non-scaling-stroke; stroke-dasharray: 3 3; }
.limit { stroke: var(--ink); stroke-width: 1.5; vector-effect: non-scaling-stroke; stroke-dasharray: 6 4; }
path.flag { stroke: var(--flag); stroke-width: 2; vector-effect: non-scaling-stroke; } .mark { fill: var(--flag); }
.flag { color: var(--flag); } .fast, .bar { fill: var(--wave); background: var(--wave); } .slow { fill: var(--slow); }
.key { display: inline-block; width: 1em; height: 1em; vertical-align: -.15em; margin-left: .75em; }
.key.band { background: var(--even); border: 1px solid var(--line); margin-left: 0; }
.key.seam { width: 0; border-left: 2px dashed var(--soft); } .key.flag { height: auto; vertical-align: baseline; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: start; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
.play { color: var(--wave); text-decoration: none; padding: .25rem .5rem; } .play:hover { color: var(--ink); }
tr:target { background: var(--even); outline: 2px solid var(--wave); }
.speed { min-width: 6rem; } .bar { display: block; height: .3rem; border-radius: .15rem; }
@media (max-width: 45rem) { figure { grid-template-columns: 1fr; } main { padding: .75rem; } }
"""

# Plays the segment of a link, up to its end; the same link stops it.
SCRIPT = """
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
"""
