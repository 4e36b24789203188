"""PyAV in a process of its own, for files that libsndfile cannot read.

A decoder of an unknown file may hang, take all memory or crash. In its own process it harms nothing else.
"""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from io import FileIO
from pathlib import Path
from typing import IO

import numpy as np

from moss_tts.audio import av_program
from moss_tts.audio.av_program import Limits, Report
from moss_tts.audio.waveform import (
    MAX_CHANNELS,
    SAMPLE_RATES,
    Waveform,
    check_length,
    check_sample_rate,
    most_values,
)
from moss_tts.device.confined import ConfinedError, run_confined
from moss_tts.errors import AudioError

log = logging.getLogger(__name__)

PROGRAM = Path(av_program.__file__)
# Ten minutes of eight channels take 3 s. Samples are written as they come, so a file needs little memory.
MAX_TIME = 10.0
MAX_MEMORY = 384 * 2**20
_FAILED = "not audio that can be decoded: its decoder failed"


def read_with_av(stream: FileIO, name: str, max_seconds: float) -> Waveform:
    """A waveform of a file of any container that audio comes in.

    Raises:
        AudioError: it cannot be decoded, it is longer than `max_seconds`, its decoder takes too long or too much
            memory, or PyAV is not installed.
    """
    if find_spec("av") is None:
        raise AudioError(
            "not a wav, flac, ogg or mp3 file that is whole; other audio needs PyAV: pip install 'moss-tts-mlx[av]'"
        )
    stream.seek(0)
    rates = SAMPLE_RATES
    limits = Limits(max_seconds, MAX_CHANNELS, most_values(max_seconds), rates[0], rates[-1])
    with tempfile.TemporaryFile() as samples:
        report = _report(stream, samples, limits)
        if report.error is not None:
            raise AudioError(report.error)
        if report.samples:
            check_sample_rate(report.rate)
        check_length(report.samples, report.channels, report.rate, max_seconds)
        samples.seek(0)
        values = np.fromfile(samples, dtype=np.float32)
    if values.size != report.samples * report.channels:
        raise AudioError(_FAILED)
    if report.damaged:
        log.warning("%s: it is damaged; %d parts of it were left out", name, report.damaged)
    return Waveform(np.ascontiguousarray(values.reshape(-1, report.channels).T), report.rate)


def _report(stream: FileIO, samples: IO[bytes], limits: Limits) -> Report:
    """The program's report on a file; its samples are then in the other file."""
    try:
        said = run_confined(
            PROGRAM, json.dumps(asdict(limits)), seconds=MAX_TIME, memory=MAX_MEMORY, stdin=stream, stdout=samples
        )
        return Report(**said)
    except ConfinedError as error:
        raise AudioError(f"not audio that can be decoded: its decoder {error}") from error
    except TypeError as error:
        raise AudioError(_FAILED) from error
