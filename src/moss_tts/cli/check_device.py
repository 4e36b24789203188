"""The command `moss-tts check-device`. What is slow to import waits inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moss_tts.cli.options import Codec, CodecDtype, Dtype, examples
from moss_tts.errors import MossTTSError, RequestError

if TYPE_CHECKING:
    from moss_tts.bench import Bench
    from moss_tts.cli.speak_text import Source
    from moss_tts.cli.terminal import Terminal
    from moss_tts.evidence.checks import Finding

EXAMPLES = examples(
    ("Check this machine, and time the packaged voice", "moss-tts check-device"),
    ("Time a checkpoint too", "moss-tts check-device DIR --output my-machine.md"),
)


def check_device(
    checkpoint: Annotated[
        str | None, typer.Argument(metavar="DIR|HUB_ID", help="Time this checkpoint too, as bench does.")
    ] = None,
    codec: Codec = None,
    dtype: Dtype = None,
    codec_dtype: CodecDtype = None,
    frames: Annotated[int, typer.Option(min=8, metavar="N", help="Measure speed over N frames of 80 ms.")] = 50,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Write the page here.")] = Path(
        "check-device.md"
    ),
) -> None:
    """Check that this machine computes what it should, measure how fast it speaks, and write a page about it.

    It takes less than a minute and needs no weights: tiny checkpoints come with the package. Attach the page to an
    issue: that is how the project learns of machines that it does not have. The page names no user, folder or host.
    The exit code is 1 if a check does not hold.
    """
    from datetime import date

    from moss_tts.atomic import atomic_file, expanded
    from moss_tts.checkpoints.packaged import packaged_voice
    from moss_tts.cli.places import check_file
    from moss_tts.cli.speak_text import Source
    from moss_tts.cli.terminal import Terminal
    from moss_tts.evidence.machine import facts, issues_address
    from moss_tts.evidence.page import page, verdict

    output = expanded(output)
    check_file("--output", output)
    sources = {"the packaged voice": Source(str(packaged_voice()))}
    if checkpoint is not None:
        source = Source(checkpoint, codec, dtype, codec_dtype=codec_dtype)
        if source.makes_sounds:
            raise RequestError(f"{source.name} is a sound model; `moss-tts bench` times those.")
        sources[source.name] = source
    terminal, machine = Terminal(), facts()
    findings = list(_findings(terminal))
    speeds = {name: _speed(terminal, name, source, frames) for name, source in sources.items()}
    with atomic_file(output) as part:
        part.write_text(page(machine, findings, speeds, date.today()), encoding="utf-8")
    terminal.say(f"{output}: {machine['device']}. {verdict(findings)}")
    terminal.hint(f"Attach the page to an issue: {issues_address()}/new?template=device.yml")
    failed = [name for name, speed in speeds.items() if isinstance(speed, str)]
    raise typer.Exit(1 if failed or not all(finding.holds for finding in findings) else 0)


def _findings(terminal: Terminal) -> Iterator[Finding]:
    """Run all checks, and say at once what does not hold."""
    from tempfile import TemporaryDirectory

    from moss_tts.evidence.checks import all_checks, examine

    with TemporaryDirectory() as scratch, terminal.working("checking") as show:
        checks = all_checks(Path(scratch))
        for index, check in enumerate(checks):
            show(index / len(checks), check.subject)
            finding = examine(check)
            if finding.failure is not None:
                terminal.warn(f"{check.subject}, {check.statement} {finding.failure}", "does not hold")
            yield finding


def _speed(terminal: Terminal, name: str, source: Source, frames: int) -> Bench | str:
    """The figures of a checkpoint, or why there are none."""
    from moss_tts.bench import bench
    from moss_tts.evidence.checks import without_folders

    try:
        with terminal.loading(f"{name} and timing it"):
            return bench(source.load, frames)
    except (MossTTSError, RuntimeError, OSError, MemoryError) as error:
        terminal.warn(f"{name} was not measured: {error}")
        return without_folders(str(error))
