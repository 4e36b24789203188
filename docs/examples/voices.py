"""Voices by name: register a recording once, speak with it as often as you like.

python voices.py                            # the packaged voice speaks, but cannot imitate
python voices.py OpenMOSS-Team/MOSS-TTS     # a model that clones voices
"""

import sys

import moss_tts

model = moss_tts.load(sys.argv[1] if len(sys.argv) > 1 else None)

# A recording is a file, or a speech that was just made; here the packaged voice lends itself.
text = "This recording says who I am, in 9 words"
with moss_tts.load() as packaged:
    recording = packaged.say(text, seed=1)
voices = moss_tts.Voices()
voices.add("packaged", recording, transcript=text, description="the voice of the package", replace=True)
for voice in voices:
    print(f"{voice.name}: {voice.record.seconds:.1f} s, {voice.record.description}")

model.say("The same voice, with other words", voice="packaged", seed=1, max_tokens=100).save("cloned.wav")
voices.remove("packaged")
