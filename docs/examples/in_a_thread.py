"""A window or web page that stays alive: a worker thread speaks, and a stop button ends it.

Gradio, Qt and most web frameworks call your function in a thread of their own, as this program does.

python in_a_thread.py
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import moss_tts

model = moss_tts.load()  # loaded in the main thread, used in others
stop = threading.Event()  # what a stop button sets


def speak(text: str) -> moss_tts.Speech:
    """What a framework calls when somebody presses the button."""
    return model.say(text, seed=1, cancel=stop)


with ThreadPoolExecutor() as pool:
    first = pool.submit(speak, "Two people press the button, one after the other")
    second = pool.submit(speak, "Nobody has to wait for a second model")
    for name, pressed in (("first", first), ("second", second)):
        pressed.result().save(f"{name}.wav")

    long = pool.submit(speak, "A long text goes on and on, until somebody has heard enough. " * 100)
    threading.Timer(1.0, stop.set).start()
    print("stopped:", long.result())
