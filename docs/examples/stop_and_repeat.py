"""A seed that repeats a take you liked, and a speech that ends when it has to.

python stop_and_repeat.py
"""

import threading

import moss_tts

model = moss_tts.load()
takes = [model.say("To be, or not to be") for _ in range(3)]
for take in takes:
    print(take)
liked = takes[1]
again = model.say("To be, or not to be", seed=liked.seed)
print("the same samples:", (again.audio == liked.audio).all())
again.save("liked.flac")

# At most two seconds: whatever is complete by then is kept.
stop = threading.Event()
threading.Timer(2.0, stop.set).start()
short = model.say("That is the question, whether it is nobler in the mind to suffer. " * 10, cancel=stop)
print(f"{short.seconds:.1f} s before it was {short.finish_reason}")
short.save("short.wav")
