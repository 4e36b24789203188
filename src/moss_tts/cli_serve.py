"""The commands `moss-tts serve` and `moss-tts voices`; cli.py registers them. What is slow to import waits inside."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from moss_tts.errors import MossTTSError

SERVE_EXAMPLES = (
    "[bold]Examples[/bold]",
    "Serve the packaged voice:  moss-tts serve, then open http://127.0.0.1:8000",
    "Another model:  moss-tts serve --model DIR",
    "Speak:  curl http://127.0.0.1:8000/v1/audio/speech -H 'Content-Type: application/json' "
    """-d '{"input": "Hello there."}' -o hello.mp3""",
    "To others on the network:  MOSS_TTS_API_KEY=secret moss-tts serve --model DIR --host 0.0.0.0",
    "Ctrl-C finishes what is being spoken; a second one does not wait.",
)


def _panel(title: str) -> Any:
    return functools.partial(typer.Option, rich_help_panel=title)


MODEL, WHO, LIMITS = _panel("Model"), _panel("Who may use it"), _panel("Limits")
VOICES = {"metavar": "DIR", "help": "Of the registered voices; MOSS_TTS_VOICES or the user's own by default."}


def serve(
    model: Annotated[
        str | None, MODEL("--model", "-m", metavar="DIR|HUB_ID", help="The checkpoint; by default the packaged voice.")
    ] = None,
    codec: Annotated[
        str | None, MODEL(metavar="DIR|HUB_ID", help="The codec, if it is not beside the weights.")
    ] = None,
    dtype: Annotated[str | None, MODEL(help="float32 or bfloat16 to compute in.")] = None,
    revision: Annotated[str | None, MODEL(help="Branch, tag or commit of a hub id.")] = None,
    codec_dtype: Annotated[
        str | None, MODEL(help="float32, bfloat16 or 8bit, for the codec's decoder: less memory, a little noise.")
    ] = None,
    kv_bits: Annotated[
        int | None, MODEL(metavar="8|4", help="Keep the context in so many bits: less memory for long requests.")
    ] = None,
    max_memory: Annotated[
        float | None, MODEL(metavar="GB", help="Refuse a checkpoint that needs more, and keep below.")
    ] = None,
    name: Annotated[
        str | None, MODEL(metavar="NAME", help="What clients call the model; the checkpoint's by default.")
    ] = None,
    voice: Annotated[
        str | None, MODEL(metavar="NAME", help="The registered voice of requests that name none of their own.")
    ] = None,
    voices: Annotated[Path | None, MODEL(**VOICES)] = None,
    host: Annotated[str, WHO(help="Address to listen on; 0.0.0.0 is the whole network.")] = "127.0.0.1",
    port: Annotated[int, WHO(min=0, max=65535, help="To listen on; 0 is any that is free.")] = 8000,
    api_key: Annotated[
        str | None, WHO(envvar="MOSS_TTS_API_KEY", help="Clients must send it as bearer token.", show_envvar=True)
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        WHO(metavar="NAME", help="A public name of this server, where no key is asked for; repeat."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None, WHO(metavar="ORIGIN", help="Another site whose pages may call this server; repeat.")
    ] = None,
    max_batch: Annotated[int, LIMITS(min=1, metavar="N", help="Requests spoken side by side.")] = 16,
    max_waiting: Annotated[int, LIMITS(min=0, metavar="N", help="Requests that may wait; then 503.")] = 64,
    timeout: Annotated[float, LIMITS(min=1, metavar="SECONDS", help="Of a request, its waiting included.")] = 600.0,
    grace: Annotated[float, LIMITS(min=1, metavar="SECONDS", help="For running requests when stopped.")] = 30.0,
    max_body: Annotated[int, LIMITS(min=1, metavar="MIB", help="Of a request.")] = 32,
    max_chars: Annotated[int, LIMITS(min=1, metavar="N", help="Characters of a request's texts.")] = 20_000,
    max_frames: Annotated[int, LIMITS(min=1, metavar="N", help="Of 80 ms that max_tokens may ask for.")] = 4096,
    max_reference: Annotated[
        float, LIMITS(min=1, metavar="SECONDS", help="Of a request's recordings together.")
    ] = 120.0,
    max_voices: Annotated[int, LIMITS(min=0, metavar="N", help="That may be registered over HTTP.")] = 1000,
) -> None:
    """Serve speech over HTTP: OpenAI's API, voices, and a page for people at /."""
    from moss_tts.packaged import packaged_voice
    from moss_tts.speaking import Source
    from moss_tts.terminal import Terminal
    from moss_tts.voices import Voices, default_directory

    try:
        from moss_tts.server.serve import bound
        from moss_tts.server.serve import serve as listen
        from moss_tts.server.settings import MiB, Settings
    except ModuleNotFoundError as error:
        raise MossTTSError(f"serving needs {error.name}: pip install 'moss-tts-mlx[server]'") from error
    directory = voices or default_directory()
    if voice is not None:
        Voices(directory)[voice]
    checkpoint = model or str(packaged_voice())
    settings = Settings(
        model_id=name or Path(checkpoint).name,
        max_batch=max_batch,
        max_waiting=max_waiting,
        timeout_s=timeout,
        grace_s=grace,
        max_body=max_body * MiB,
        max_chars=max_chars,
        max_frames=max_frames,
        max_reference_s=max_reference,
        max_voices=max_voices,
        api_key=api_key,
        hosts=tuple(allow_host or ()),
        cors_origins=tuple(cors_origin or ()),
        voice=voice,
        voices=directory,
    )
    terminal, source = Terminal(), Source(checkpoint, codec, dtype, revision, max_memory, codec_dtype, kv_bits)

    def load() -> Any:
        with terminal.loading(checkpoint):
            return source.load()

    with bound(host, port) as place:
        raise typer.Exit(listen(load, settings, place, terminal.say))


voices_app = typer.Typer(
    help="Voices under a name, for generate, read and serve alike.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@voices_app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="1 to 64 of a-z, 0-9, - and _.")],
    recording: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Some 5 to 30 seconds of the voice alone."),
    ],
    text: Annotated[
        str | None, typer.Option(help="What the recording says; dialogues and continuations need it.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="Words for people.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="DIR|HUB_ID", help="Encode it for this model now, not when first used."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="In place of a voice of that name.")] = False,
    voices: Annotated[Path | None, typer.Option(**VOICES)] = None,
) -> None:
    """Register a recording as a voice, for instance one that VoiceGenerator made."""
    from moss_tts.terminal import Terminal
    from moss_tts.voices import Voices, check_name

    check_name(name)
    loaded = None
    if model is not None:
        from moss_tts.model import load

        loaded = load(model)
    added = Voices(voices).add(name, recording, transcript=text, description=description, model=loaded, replace=replace)
    Terminal().say(f"{added.name}: {added.record.seconds:.1f} s, {added.directory}")


@voices_app.command("list")
def list_voices(
    voices: Annotated[Path | None, typer.Option(**VOICES)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The registered voices."""
    from dataclasses import asdict
    from json import dumps

    from moss_tts.voices import Voices

    known = list(Voices(voices))
    if json:
        print(dumps([asdict(voice.record) for voice in known], ensure_ascii=False, indent=2))
        return
    for voice in known:
        about = voice.record.description or voice.record.transcript or ""
        print(f"{voice.name:<20} {voice.record.seconds:6.1f} s  {about[:70]}".rstrip())


@voices_app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    voices: Annotated[Path | None, typer.Option(**VOICES)] = None,
) -> None:
    """Forget a voice, and delete its files."""
    from moss_tts.terminal import Terminal
    from moss_tts.voices import Voices

    Voices(voices).remove(name)
    Terminal().say(f"{name} is gone")
