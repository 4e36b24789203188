"""The first program: a text becomes a file.

python first_speech.py
"""

import moss_tts

model = moss_tts.load()  # the packaged voice; a directory or hub id loads another model
speech = model.say("Hello there, this is my first speech", seed=1)
print(speech)
print(f"made in {speech.timings.seconds:.1f} s, {speech.timings.real_time_factor:.1f} times as fast as it plays")
speech.save("first_speech.wav")
