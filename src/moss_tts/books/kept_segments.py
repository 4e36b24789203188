"""The files that a reading keeps on disk: a manifest of what is read, and each finished segment.

A segment is one file that appears whole or not at all, so a kill at any moment leaves nothing half written. It holds
the codes, which the next segment continues, and the samples, so that a chapter has the same bytes however often its
reading was interrupted. A sum over its contents, its place and the manifest shows later changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moss_tts.atomic import atomic_file
from moss_tts.audio.pcm import Pcm, as_pcm
from moss_tts.audio.seams import SEAM_SECONDS
from moss_tts.books.manifest import Manifest
from moss_tts.books.work_lock import LOCK
from moss_tts.errors import GenerationError, RequestError
from moss_tts.long_form import BoundaryMetrics, SegmentMetrics
from moss_tts.speaking.checking import Take
from moss_tts.speaking.narration import SpokenSegment

MANIFEST = "manifest.json"


class KeptSegments:
    """The directory of one reading. Chapters and segments count from 0."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Segments that were read and found unchanged.
        self._checked: set[Path] = set()

    # ------------------------------------------------------------------------------------------ what is read

    def manifest(self) -> Manifest | None:
        """The manifest of the kept segments; None if nothing was kept yet.

        Raises:
            RequestError: the directory is something else.
        """
        file = self.directory / MANIFEST
        if file.is_file():
            return Manifest.from_json(file.read_bytes(), str(file))
        if self.directory.exists() and (not self.directory.is_dir() or self._others()):
            raise RequestError(
                f"{self.directory} is not the directory of a reading: it has no {MANIFEST}. Move or rename it."
            )
        return None

    def _others(self) -> set[Path]:
        return {*self.directory.iterdir()} - {self.directory / LOCK, *self._halves()}

    def _halves(self) -> Iterator[Path]:
        """Files that a killed process was about to write."""
        return self.directory.glob(".*.incomplete")

    def begin(self, manifest: Manifest) -> None:
        """Delete the kept segments, and keep segments of this reading from now on."""
        self._clear()
        self.directory.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.directory / MANIFEST) as part:
            part.write_text(manifest.to_json(), encoding="utf-8")

    def remove(self) -> None:
        """Delete the kept files; the directory stays if it has other files."""
        self._clear()
        with suppress(OSError):
            self.directory.rmdir()

    def _clear(self) -> None:
        for file in [self.directory / MANIFEST, *self.directory.glob("*.safetensors"), *self._halves()]:
            file.unlink(missing_ok=True)

    # ---------------------------------------------------------------------------------------------- segments

    def file(self, chapter: int, segment: int) -> Path:
        """The file of a segment."""
        return self.directory / f"{chapter:04d}-{segment:05d}.safetensors"

    def holds(self, chapter: int, segment: int) -> bool:
        """Whether a segment is finished."""
        return self.file(chapter, segment).is_file()

    def keep(self, chapter: int, spoken: SpokenSegment, sample_rate: int) -> None:
        """Write a segment to disk.

        Raises:
            GenerationError: it cannot be written.
        """
        tail = spoken.audio[-round(SEAM_SECONDS * sample_rate) :]
        arrays: dict[str, np.ndarray] = {"codes": spoken.codes, "pcm": as_pcm(spoken.audio), "tail": tail}
        told = {
            "sample_rate": sample_rate,
            "finish_reason": spoken.finish_reason,
            "metrics": asdict(spoken.metrics),
            "seam": None if spoken.seam is None else asdict(spoken.seam),
            "takes": [asdict(take) for take in spoken.takes],
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        path, segment = self.file(chapter, spoken.metrics.segment_idx), json.dumps(told)
        try:
            with atomic_file(path) as part:
                save_file(arrays, part, {"segment": segment, "sum": self._sum(path, segment, arrays)})
        except (OSError, SafetensorError) as error:
            raise GenerationError(
                f"{path} cannot be written: {error}. Finished segments are kept there; run the same command again once "
                "there is room."
            ) from error

    def spoken(self, chapter: int, segment: int) -> SpokenSegment:
        """A finished segment, with only the end of its audio."""
        told = self._told(chapter, segment)
        return SpokenSegment(
            self._array(chapter, segment, "codes"),
            self._array(chapter, segment, "tail"),
            told["finish_reason"],
            SegmentMetrics(**told["metrics"]),
            None if told["seam"] is None else BoundaryMetrics(**told["seam"]),
            tuple(Take(**take) for take in told.get("takes", ())),
        )

    def pcm(self, chapter: int, segment: int) -> Pcm:
        """A finished segment's samples, (S,) or (S, C)."""
        return self._array(chapter, segment, "pcm")

    def sample_rate(self, chapter: int, segment: int) -> int:
        """A finished segment's rate, in Hz."""
        return int(self._told(chapter, segment)["sample_rate"])

    def _array(self, chapter: int, segment: int, name: str) -> Any:
        return self._read(chapter, segment, lambda file: file.get_tensor(name))

    def _told(self, chapter: int, segment: int) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._read(chapter, segment, lambda file: file.metadata()["segment"]))
        return told

    def _read(self, chapter: int, segment: int, take: Any) -> Any:
        path = self.file(chapter, segment)
        try:
            with safe_open(path, framework="numpy") as file:
                if path not in self._checked:
                    self._check(path, file)
                return take(file)
        except (OSError, SafetensorError) as error:
            raise RequestError(
                f"{path} is damaged ({error}); delete it, and the segment will be spoken again."
            ) from error

    def _check(self, path: Path, file: Any) -> None:
        told = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        if told.get("sum") != self._sum(path, told.get("segment", ""), arrays):
            raise RequestError(
                f"{path} was changed since it was written; delete it, and the segment will be spoken again."
            )
        self._checked.add(path)

    def _sum(self, path: Path, segment: str, arrays: Mapping[str, np.ndarray]) -> str:
        """The sum over what a file holds, its name, and the manifest of its reading."""
        manifest = self.directory / MANIFEST
        digest = hashlib.sha256(manifest.read_bytes() if manifest.is_file() else b"")
        for name, array in sorted(arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
        digest.update(f"{path.name} {segment}".encode())
        return digest.hexdigest()
