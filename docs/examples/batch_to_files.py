"""Many texts at once: spoken side by side, each into a file of its own.

python batch_to_files.py
"""

import moss_tts

LINES = ["Platform 4, please", "Mind the gap, and the 3 steps", 'The sign says "no entry"']

model = moss_tts.load()
requests = [{"text": line, "seed": 1} for line in LINES]
for number, result in model.generate_batch(requests, max_batch=8):
    if isinstance(result, moss_tts.GenerationError):
        print(f"line {number} failed: {result}")
        continue
    path = moss_tts.write_audio(f"line_{number}.wav", result)
    print(f"{path}: {result.audio_duration}, {result.finish_reason}")
