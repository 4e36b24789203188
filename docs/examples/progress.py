"""A long text with a progress bar, and the times of its segments.

python progress.py
"""

from rich.progress import Progress

import moss_tts

TEXT = "It rained for 3 days, and then for a week. The river rose, slowly, past the old bridge. " * 4

model = moss_tts.load()
with Progress() as bars:
    bar = bars.add_task("speaking", total=1.0)
    speech = model.say(TEXT, seed=1, on_progress=lambda share: bars.update(bar, completed=share))
start = 0.0
for segment in speech.segments:
    print(f"{start:6.2f} s  segment {segment.segment_idx}: {segment.segment_chars} characters")
    start += segment.emitted_seconds
speech.save("progress.mp3")
