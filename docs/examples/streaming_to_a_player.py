"""Sound from the first moment: chunks go to a player while the rest is still made.

python streaming_to_a_player.py                     # with ffplay, from FFmpeg
python streaming_to_a_player.py aplay -q -t raw -f S16_LE -r 24000 -c 1
"""

import subprocess
import sys

import numpy as np

import moss_tts

model = moss_tts.load()
FFPLAY = ["ffplay", "-nodisp", "-autoexit", "-loglevel", "error", "-f", "s16le", "-ar", str(model.sample_rate), "-"]
command = sys.argv[1:] or FFPLAY

with subprocess.Popen(command, stdin=subprocess.PIPE) as player:
    assert player.stdin is not None
    for chunk in model.generate("You hear the beginning, while the end is not made yet", stream=True, seed=1):
        pcm = (np.clip(chunk.audio, -1, 1) * 32767).astype("<i2")
        player.stdin.write(pcm.tobytes())
        player.stdin.flush()
        print(f"{chunk.audio_duration} sent")
