"""Examples in the schema: requests as they are sent, and what comes back."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

REQUESTS: Final[Json] = {
    "sentence": {"summary": "A sentence", "value": {"input": "Hello there.", "seed": 1}},
    "voice": {
        "summary": "In a registered voice",
        "value": {"input": "Hello there.", "voice": "alice", "response_format": "wav"},
    },
    "design": {
        "summary": "In a voice that is described (VoiceGenerator)",
        "value": {"input": "Hello there.", "instructions": "An old man, slow and warm"},
    },
    "dialogue": {
        "summary": "Two speakers (TTSD)",
        "value": {
            "input": "[S1] Is it raining? [S2] Not any more.",
            "dialogue_speakers": {"S1": {"voice": "alice"}, "S2": {"voice": "bob"}},
        },
    },
    "sound": {
        "summary": "A sound (SoundEffect)",
        "value": {"ambient_sound": "Rain on a tin roof", "duration_s": 10},
    },
    "long": {
        "summary": "A long text, in segments",
        "value": {"input": "The first chapter begins here.", "long_form": True, "stream_format": "sse"},
    },
}
SPEECH_COMMANDS: Final = {
    "A sentence as MP3": "curl SERVER/v1/audio/speech -H 'Content-Type: application/json' \\\n"
    """  -d '{"input": "Hello there."}' -o hello.mp3""",
    "In the voice of a recording": "curl SERVER/v1/audio/speech -F input='Hello there.' \\\n"
    "  -F reference=@alice.wav -o alice.mp3",
    "Heard while it is made": "curl -N SERVER/v1/audio/speech -H 'Content-Type: application/json' \\\n"
    """  -d '{"input": "Hello there.", "response_format": "wav"}' | ffplay -nodisp -autoexit -""",
}
BATCHES: Final[Json] = {
    "sentences": {
        "summary": "Two sentences in one voice",
        "value": {"voice": "alice", "items": [{"input": "Hello there."}, {"input": "And goodbye.", "speed": 0.9}]},
    },
}
BATCH_COMMANDS: Final = {
    "Two sentences": "curl SERVER/v1/audio/speech/batch -H 'Content-Type: application/json' \\\n"
    """  -d '{"items": [{"input": "Hello there."}, {"input": "And goodbye."}]}'"""
}
BATCH_RESULT: Final[Json] = {
    "id": "speech-batch-1f0c9d1e7a3b4c2d",
    "results": [
        {
            "index": 0,
            "status": "success",
            "audio_data": "SUQzBAAAAAA...",
            "media_type": "audio/mpeg",
            "finish_reason": "stop",
            "seed": 1,
            "usage": {"input_tokens": 41, "output_tokens": 19, "total_tokens": 60},
        },
        {"index": 1, "status": "error", "error": "speed: ...", "param": "speed", "code": "invalid_value"},
    ],
    "total": 2,
    "succeeded": 1,
    "failed": 1,
}
VOICES_COMMANDS: Final = {"The registered voices": "curl SERVER/v1/audio/voices"}
ADD_VOICE_COMMANDS: Final = {
    "A voice from a recording": "curl SERVER/v1/audio/voices -F name=alice -F audio_sample=@alice.wav \\\n"
    "  -F transcript='What the recording says.'"
}
SAMPLE_COMMANDS: Final = {"The recording as a file": "curl SERVER/v1/audio/voices/alice/sample -o alice.wav"}
REMOVE_VOICE_COMMANDS: Final = {"Delete a voice": "curl -X DELETE SERVER/v1/audio/voices/alice"}
MODELS_COMMANDS: Final = {"The models": "curl SERVER/v1/models"}
LOAD_COMMANDS: Final = {"Load a model": "curl -X POST SERVER/v1/models/MOSS-TTS/load"}
UNLOAD_COMMANDS: Final = {"Free its memory": "curl -X POST SERVER/v1/models/MOSS-TTS/unload"}
ENCODE_COMMANDS: Final = {
    "Samples as MP3": "curl 'SERVER/v1/audio/encode?sample_rate=24000&response_format=mp3' \\\n"
    "  -H 'Content-Type: audio/pcm' --data-binary @hello.pcm -o hello.mp3"
}

VOICE: Final[Json] = {
    "id": "alice",
    "object": "audio.voice",
    "type": "audio_sample",
    "name": "alice",
    "created_at": 1760000000,
    "transcript": "What the recording says.",
    "description": "Calm, a little hoarse",
    "seconds": 6.4,
    "source_sha256": "9f2c...",
}
VOICE_LIST: Final[Json] = {
    "object": "list",
    "data": [VOICE],
    "voices": [{"id": "default", "name": "default"}, {"id": "alice", "name": "alice"}],
}
DELETED: Final[Json] = {"id": "alice", "object": "audio.voice.deleted", "deleted": True}
MODEL: Final[Json] = {
    "id": "MOSS-TTS",
    "object": "model",
    "created": 0,
    "owned_by": "local",
    "state": "loaded",
    "memory_bytes": 17_100_000_000,
    "preset": "moss_tts",
    "prompt_field": "input",
    "sample_rate": 24000,
    "channels": 1,
    "fields": ["instructions", "reference", "language", "duration_s", "long_form"],
    "language": None,
    "voice": None,
    "frame_rate": 12.5,
    "defaults": {"temperature": 1.7, "top_p": 0.8, "top_k": 25, "max_tokens": 4096},
    "limits": {
        "characters": 20000,
        "prompt_rows": 8192,
        "recording_seconds": 120,
        "frames": 4096,
        "body_bytes": 33554432,
    },
}
UNLOADED: Final[Json] = MODEL | {"state": "unloaded", "memory_bytes": 0}
MODEL_LIST: Final[Json] = {"object": "list", "data": [MODEL]}
