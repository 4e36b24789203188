"""When training has to stop: its minutes are over, or somebody ends the process and the last step is to be saved."""

import signal
import time


class Clock:
    """Also hears SIGTERM, until `release`."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.before = signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_: object) -> None:
        self.end = 0.0

    @property
    def over(self) -> bool:
        return time.monotonic() > self.end

    def release(self) -> None:
        signal.signal(signal.SIGTERM, self.before)
