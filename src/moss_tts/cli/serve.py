"""The command `moss-tts serve`. What is slow to import waits inside."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moss_tts.cli.arguments import read_lexicons
from moss_tts.cli.options import (
    VOICES,
    Codec,
    CodecDtype,
    Dtype,
    KvBits,
    MaxMemory,
    Revision,
    TiedHeads,
    examples,
    panel,
)
from moss_tts.cli.service_files import WHERE, Manager, given_arguments, new_service
from moss_tts.errors import MossTTSError

if TYPE_CHECKING:
    from moss_tts.cli.terminal import Terminal

EXAMPLES = examples(
    ("Serve the packaged voice, and open http://127.0.0.1:8000", "moss-tts serve"),
    ("Serve another model", "moss-tts serve --model DIR"),
    (
        "Serve two models, and free a model's memory after ten minutes without a request",
        "moss-tts serve --model big=DIR --model fast=DIR2 --keep-alive 10m",
    ),
    (
        "Ask the server to speak, from another terminal",
        "curl http://127.0.0.1:8000/v1/audio/speech -o hello.mp3 \\\n"
        """    -H 'Content-Type: application/json' -d '{"input": "Hello there."}'""",
    ),
    (
        "Serve the whole network, with a key that clients must send",
        "MOSS_TTS_API_KEY=secret moss-tts serve --model DIR --host 0.0.0.0",
    ),
    (
        "Print the file that starts the server with this machine (launchd on macOS)",
        "moss-tts serve --model DIR --print-service systemd",
    ),
    notes=("Ctrl-C stops the server after the running requests; a second Ctrl-C does not wait for them.",),
)


MODEL, WHO, LIMITS, OPERATION = panel("Model"), panel("Who may use it"), panel("Limits"), panel("Operation")


def serve(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        MODEL(
            "--model",
            "-m",
            metavar="[NAME=]DIR|HUB_ID",
            help="Serve this checkpoint. The default is the packaged voice. Repeat the option, with a name each, for "
            "several models: the field `model` of a request then chooses, and the first one is the default.",
        ),
    ] = None,
    codec: Codec = None,
    dtype: Dtype = None,
    revision: Revision = None,
    codec_dtype: CodecDtype = None,
    kv_bits: KvBits = None,
    tied_heads: TiedHeads = None,
    max_memory: MaxMemory = None,
    keep_alive: Annotated[
        str,
        MODEL(
            metavar="TIME",
            help="Take a model out of memory when nobody has used it for this time, such as 10m; the next request "
            "loads it again. 0 is at once.",
        ),
    ] = "never",
    max_loaded: Annotated[
        int | None,
        MODEL(
            min=1,
            metavar="N",
            help="Keep up to N models in memory. A request for another one takes the place of the one that was unused "
            "for longest. The default is all of them.",
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        MODEL(
            metavar="[MODEL/]NAME=DIR[:WEIGHT]",
            help="Load this LoRA adapter. Requests that name no adapters use it with this weight; without a weight, "
            "it is off for them. If there are several models, MODEL says for which. Repeat the option for more.",
        ),
    ] = None,
    lexicon: Annotated[
        list[str] | None,
        MODEL(
            metavar="NAME=FILE",
            help="Let requests name this lexicon, which says how words are spoken. Repeat the option for more.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        MODEL(metavar="NAME", help="Give the model this name for clients. The default is the checkpoint's name."),
    ] = None,
    mark: Annotated[
        bool,
        MODEL(
            "--mark/--no-mark",
            help="Write into files that their audio is synthetic and what made it. This is on by default.",
            show_default=False,
        ),
    ] = True,
    voice: Annotated[
        str | None, MODEL(metavar="NAME", help="Use this registered voice for requests that name none.")
    ] = None,
    voices: Annotated[Path | None, MODEL(**VOICES)] = None,
    host: Annotated[
        str, WHO(metavar="ADDRESS", help="Listen on this address; 0.0.0.0 is open to the whole network.")
    ] = "127.0.0.1",
    port: Annotated[int, WHO(min=0, max=65535, metavar="N", help="Listen on this port; 0 takes any free port.")] = 8000,
    api_key: Annotated[
        str | None,
        WHO(
            envvar="MOSS_TTS_API_KEY",
            metavar="KEY",
            help="Accept only clients that send this key, as a bearer token.",
            show_envvar=True,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        WHO(
            metavar="NAME",
            help="Accept browsers that use this name of a server without a key. Repeat the option for more names.",
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        WHO(metavar="ORIGIN", help="Let pages of this other site call the server. Repeat the option for more sites."),
    ] = None,
    max_batch: Annotated[int, LIMITS(min=1, metavar="N", help="Speak up to N requests at the same time.")] = 16,
    max_waiting: Annotated[
        int, LIMITS(min=0, metavar="N", help="Let up to N requests wait; more are refused with 503.")
    ] = 64,
    timeout: Annotated[
        float, LIMITS(min=1, metavar="SECONDS", help="Stop a request after this time; waiting counts.")
    ] = 600.0,
    grace: Annotated[
        float, LIMITS(min=1, metavar="SECONDS", help="Wait this long for running requests when the server stops.")
    ] = 30.0,
    max_body: Annotated[int, LIMITS(min=1, metavar="MIB", help="Refuse a request with a larger body.")] = 32,
    max_chars: Annotated[
        int, LIMITS(min=1, metavar="N", help="Refuse a request if its texts are longer than N characters.")
    ] = 20_000,
    max_prompt: Annotated[
        int, LIMITS(min=1, metavar="N", help="Refuse a request with a prompt of more than N tokens and frames.")
    ] = 8192,
    max_frames: Annotated[
        int, LIMITS(min=1, metavar="N", help="Refuse a request if its max_tokens is greater, in frames of 80 ms.")
    ] = 4096,
    max_reference: Annotated[
        float, LIMITS(min=1, metavar="SECONDS", help="Refuse a request if its recordings are longer, all together.")
    ] = 120.0,
    max_voices: Annotated[int, LIMITS(min=0, metavar="N", help="Let clients register up to N voices.")] = 1000,
    max_sessions: Annotated[
        int, LIMITS(min=0, metavar="N", help="Let up to N sessions over WebSockets be open together.")
    ] = 16,
    session_idle: Annotated[
        float, LIMITS(min=1, metavar="SECONDS", help="End a session in which no message comes and no sound is made.")
    ] = 300.0,
    turn_timeout: Annotated[
        float, LIMITS(min=1, metavar="SECONDS", help="Stop a turn of a session after this time.")
    ] = 600.0,
    session_timeout: Annotated[
        float, LIMITS(min=1, metavar="SECONDS", help="End a session with its turn after this time.")
    ] = 3600.0,
    log_json: Annotated[
        bool,
        OPERATION("--log-json", help="Write the log as one JSON object on each line, for programs that collect it."),
    ] = False,
    print_service: Annotated[
        Manager | None,
        OPERATION(
            metavar="launchd|systemd",
            help="Print the file that starts this server with the machine, with the other options given, and exit.",
        ),
    ] = None,
) -> None:
    """Serve speech over HTTP: OpenAI's API, voices, and a page for people at /."""
    from moss_tts.audio.marking import mark_of
    from moss_tts.cli.served_models import read_duration, read_models
    from moss_tts.cli.speak_text import Source
    from moss_tts.cli.terminal import Terminal
    from moss_tts.voices import Voices, default_directory

    options = Source("", codec, dtype, revision, max_memory, codec_dtype, kv_bits, tied_heads)
    models = read_models(model or [], name, lora or [], options)
    keep_alive_s = read_duration("--keep-alive", keep_alive)
    if print_service is not None:
        _print_service(context, print_service, grace, api_key)
        return
    try:
        from moss_tts.server.lifecycle import serve as listen
        from moss_tts.server.listener import bound
        from moss_tts.server.logs import shown
        from moss_tts.server.served_model import ModelSource
        from moss_tts.server.settings import MiB, Settings
    except ModuleNotFoundError as error:
        raise MossTTSError(f"serving needs {error.name}: pip install 'moss-tts-mlx[server]'") from error
    directory = voices or default_directory()
    if voice is not None:
        Voices(directory)[voice]
    settings = Settings(
        max_batch=max_batch,
        max_waiting=max_waiting,
        timeout_s=timeout,
        grace_s=grace,
        max_body=max_body * MiB,
        max_chars=max_chars,
        max_prompt=max_prompt,
        max_frames=max_frames,
        max_reference_s=max_reference,
        max_voices=max_voices,
        max_sessions=max_sessions,
        session_idle_s=session_idle,
        turn_timeout_s=turn_timeout,
        session_timeout_s=session_timeout,
        api_key=api_key,
        hosts=tuple(allow_host or ()),
        cors_origins=tuple(cors_origin or ()),
        voice=voice,
        lexicons=read_lexicons(lexicon or []),
        voices=directory,
        keep_alive_s=keep_alive_s,
        max_loaded=max_loaded or len(models),
        max_memory=None if max_memory is None else round(max_memory * 1e9),
    )
    terminal = Terminal()
    sources = [
        ModelSource(one.name, one.source.load, one.weights, mark_of(one.name) if mark else None) for one in models
    ]

    with bound(host, port) as place, shown(log_json):
        raise typer.Exit(listen(sources, settings, place, partial(_tell, terminal), terminal.loading))


def _tell(terminal: Terminal, address: str) -> None:
    terminal.say(address)
    terminal.hint("Open this address in a browser, or send requests of OpenAI's API to /v1. Ctrl-C stops the server.")


def _print_service(context: typer.Context, manager: Manager, grace: float, api_key: str | None) -> None:
    from moss_tts.cli.terminal import Terminal

    arguments = given_arguments(context, without=("print_service", "api_key"))
    service = new_service(arguments, grace, api_key)
    print(service.file(manager), end="")
    hint = Terminal().hint
    hint(WHERE[manager])
    if api_key is not None:
        hint("The file holds the key: let nobody else read it (chmod 600).")
