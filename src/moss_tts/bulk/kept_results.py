"""results.jsonl: a line for each job that was spoken or has failed, written as soon as that is known.

A line names the job's content by its sum, so that the same jobs are not spoken again, and changed ones are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from moss_tts.atomic import atomic_file
from moss_tts.errors import RequestError

RESULTS: Final = "results.jsonl"
Row = dict[str, Any]


class KeptResults:
    """The results in a directory; a job's newest line counts.

    Args:
        directory: the directory of the audio files.

    Raises:
        RequestError: its results.jsonl is something else.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.file = directory, directory / RESULTS
        self._rows: dict[str, Row] = {row["id"]: row for row in self._read()}
        if self._rows:
            # Without what a kill may have left at the end of the last line.
            self._write(self._rows.values())

    def _read(self) -> Iterable[Row]:
        lines = self.file.read_bytes().split(b"\n") if self.file.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line) if line.strip() else None
            except ValueError as error:
                if number == len(lines):
                    return
                raise self._no_results(number) from error
            if row is None:
                continue
            if not isinstance(row, dict) or not isinstance(row.get("id"), str):
                raise self._no_results(number)
            yield row

    def _no_results(self, number: int) -> RequestError:
        return RequestError(
            f"{self.file}, line {number}, is no result of a job. Move the file away, or name another directory."
        )

    def done(self, id_: str, content: str) -> Row | None:
        """The line of a job that is done, with its files still there; None if it is to be spoken.

        Args:
            id_: the id of the job.
            content: the sum over all that its audio depends on.
        """
        row = self._rows.get(id_)
        if row is None or row.get("status") != "done" or row.get("content") != content:
            return None
        files = [row.get(name) for name in ("file", "subtitles")]
        return row if all((self.directory / str(file)).is_file() for file in files if file is not None) else None

    def add(self, row: Row) -> None:
        """Write the line of a job."""
        self._rows[row["id"]] = row
        with self.file.open("a", encoding="utf-8") as file:
            file.write(_line(row))

    def finish(self, ids: Iterable[str]) -> None:
        """Write the file anew: a line for each job, in this order, and then those of other jobs."""
        first = [self._rows[id_] for id_ in ids if id_ in self._rows]
        told = {row["id"] for row in first}
        self._write([*first, *(row for id_, row in self._rows.items() if id_ not in told)])

    def _write(self, rows: Iterable[Row]) -> None:
        with atomic_file(self.file) as part:
            part.write_text("".join(map(_line, rows)), encoding="utf-8")


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
