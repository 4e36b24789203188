"""What the golden of a sound model asks for, without knowledge of its sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.checkpoints.loading import CheckpointSource
from moss_tts.diffusion.description import clean, described
from moss_tts.diffusion.loading import EncoderOnDemand, SoundFiles
from moss_tts.diffusion.model import load_sound_model
from moss_tts.diffusion.noise import noise
from moss_tts.diffusion.request import samples_of, seconds_of
from moss_tts.diffusion.sampler import Guide, denoise
from moss_tts.diffusion.schedule import Schedule
from moss_tts.diffusion.transformer import DiffusionTransformer, Text
from support.golden_models import cases, close, golden
from support.sounds import PUBLISHED_SOUND

# Cases that say something else than how a sound is made.
OTHERS = {"defaults", "crop_48k"}


def sound_cases(folder: Path) -> dict[str, dict[str, Any]]:
    """Options of each sound, with upstream's defaults."""
    defaults = cases(folder)["defaults"]
    return {name: {**defaults, **options} for name, options in cases(folder).items() if name not in OTHERS}


def text_cases(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "text_cases.json").read_text())


def transformer_of(folder: Path) -> DiffusionTransformer:
    return SoundFiles.find(folder).load_transformer(mx.float32)


def nearly_equal(made: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(made, wanted, rtol=tolerance, atol=0)


def check_sound_texts(folder: Path) -> None:
    """Cleaning, the text that is sent, and its tokens."""
    texts = text_cases(folder)
    for given, wanted in texts["clean"]:
        assert clean(given) == wanted
    encoder = SoundFiles.find(folder).load_prompt_encoder()
    for case in texts["cases"]:
        sent = described(case["prompt"], round(float(case["seconds"]), 1))
        assert (sent, clean(sent)) == (case["sent"], case["cleaned"])
        # Here a text never becomes a control token; upstream cuts long texts off.
        if "<|" not in sent:
            assert encoder.encode(clean(sent))[:512] == case["ids"]


def check_sound_hidden_states(folder: Path) -> None:
    """The last hidden states of the text encoder."""
    encoder, wanted = EncoderOnDemand(SoundFiles.find(folder), "float32"), golden(folder)
    names = [name.removesuffix(".ids") for name in wanted if name.endswith(".ids")]
    assert names
    for name in names:
        close(encoder(wanted[f"{name}.ids"].tolist()), wanted[f"{name}.hidden"])


def check_schedule_and_noise(folder: Path) -> None:
    """Sigmas and timesteps; upstream's noise of a seed."""
    wanted = golden(folder)
    for name in [name for name in wanted if name.startswith("sched.") and name.endswith(".sigmas")]:
        _, steps, *shift, _ = name.split(".")
        schedule = Schedule.of(int(steps), float(".".join(shift)))
        nearly_equal(schedule.sigmas, wanted[name], 2e-7)
        nearly_equal(schedule.timesteps, wanted[name.replace("sigmas", "timesteps")], 2e-7)
    for name in [name for name in wanted if name.startswith("noise.")]:
        made = noise(int(name.split(".")[1]), (2, 128, 1500)).reshape(2, -1)
        parts = np.concatenate([made[:, :32], made[:, 96000 : 96000 + 32], made[:, -32:]], axis=1)
        np.testing.assert_allclose(parts, wanted[name], atol=1e-6)


def texts_of(folder: Path, network: DiffusionTransformer) -> dict[str, Text]:
    """A description, none, and one without a row of padding."""
    hidden, width = golden(folder), SoundFiles.find(folder).config.transformer.text_width
    texts = {"cond": hidden["text.0.hidden"], "uncond": np.zeros((0, width)), "full": hidden["text.long.hidden"]}
    return {name: network.text([mx.array(one)]) for name, one in texts.items()}


def check_velocities(folder: Path) -> None:
    """Velocities with a description, without one, and with one that fills all rows."""
    network, wanted = transformer_of(folder), golden(folder)
    latents = mx.array(wanted["dit.latents"])[None]
    times = network.times(wanted["dit.timesteps"])
    for name, text in texts_of(folder, network).items():
        made = mx.concatenate([network(latents, time, text) for time in times])
        close(made, wanted[f"dit.{name}.velocity"])


def check_transformer_seams(folder: Path) -> None:
    """Each part of a pass, so that a fault is found where it is."""
    network, wanted = transformer_of(folder), golden(folder)
    time = network.times(wanted["dit.timesteps"][1:2])[0]
    close((time.head - network.head.modulation)[0], wanted["seam.t"])
    close(time.blocks[0] - network.blocks[0].modulation, wanted["seam.t_mod"])
    text = texts_of(folder, network)["cond"]
    x = network.patch_embedding(mx.array(wanted["dit.latents"]).T[None])
    close(x[0], wanted["seam.patched"])
    for index, block in enumerate(network.blocks):
        x = block(x, time.blocks[index], text, index, *network.angles(x.shape[1]))
        close(x[0], wanted[f"seam.block.{index}"])


def check_sound_decoder(folder: Path) -> None:
    """The waveform of latents."""
    decoder, wanted = SoundFiles.find(folder).load_decoder(), golden(folder)
    close(decoder(mx.array(wanted["vae.latents"])), wanted["vae.wav"])


def check_sampling(folder: Path) -> None:
    """Whole sounds: latents after the last step, and the waveform."""
    files, wanted = SoundFiles.find(folder), golden(folder)
    network, decoder = files.load_transformer(mx.float32), files.load_decoder()
    encode, tokens = EncoderOnDemand(files, "float32"), files.load_prompt_encoder()
    for name, options in sound_cases(folder).items():
        hidden = [encode(tokens.encode(clean(sent))) for sent in options["sent"]]
        negative = encode(tokens.encode(clean(options["negative_prompt"])))
        start = wanted[f"sample.{name}.noise"]
        np.testing.assert_allclose(noise(options["seed"], start.shape), start, atol=1e-6)
        guide = Guide.of(network, hidden, negative, options["cfg_scale"])
        schedule = Schedule.of(options["num_inference_steps"], options.get("sigma_shift", 5.0))
        *steps, latents = denoise(network, guide, mx.array(start), schedule)
        for index, step in enumerate(steps, start=1):
            if f"sample.{name}.step.{index}" in wanted:
                close(step, wanted[f"sample.{name}.step.{index}"])
        close(latents, wanted[f"sample.{name}.latents"])
        # Upstream's sounds are a sample short for some durations.
        wave = np.concatenate(list(decoder.parts(latents, wanted[f"sample.{name}.wav"].shape[-1])), axis=1)
        np.testing.assert_allclose(wave, wanted[f"sample.{name}.wav"], atol=1e-4)


def check_published_sounds(folder: Path) -> None:
    """The same sounds by the options of `generate`, from the directory as it is published."""
    wanted = golden(folder)
    with load_sound_model(CheckpointSource(str(folder), folder, from_hub=False), "float32") as model:
        for name, options in sound_cases(folder).items():
            noises = wanted[f"sample.{name}.noise"]
            prompts = [options["prompt"]] if isinstance(options["prompt"], str) else options["prompt"]
            requests = [
                {
                    "ambient_sound": prompt,
                    "seconds": options["seconds"],
                    "steps": options["num_inference_steps"],
                    "guidance": options["cfg_scale"],
                    "shift": options["sigma_shift"],
                    "negative_prompt": options["negative_prompt"],
                    "duration_suffix": options["append_duration_suffix"],
                    "noise": noises[index],
                }
                for index, prompt in enumerate(prompts)
                if prompt.strip()
            ]
            assert [model.request(request).sent for request in requests] == options["sent"][: len(requests)]
            for (index, result), sound in zip(
                model.generate_batch(requests), wanted[f"sample.{name}.wav"], strict=False
            ):
                # Upstream loses a sample of some durations.
                assert 0 <= len(result.audio) - len(sound) <= 1, (name, index)
                np.testing.assert_allclose(result.audio[: len(sound)], sound, atol=1e-4)


def check_sound_lengths(folder: Path) -> None:
    """Samples at 48 kHz: upstream's, and the one that it loses of some durations."""
    for asked, rounded, samples in cases(folder)["crop_48k"]:
        seconds = seconds_of({"seconds": asked}, 30)
        assert seconds == rounded
        assert samples_of(seconds, PUBLISHED_SOUND) == round(rounded * 48000)
        assert round(rounded * 48000) - samples in (0, 1)


SOUND_CHECKS = [
    check_sound_texts,
    check_sound_hidden_states,
    check_schedule_and_noise,
    check_velocities,
    check_transformer_seams,
    check_sound_decoder,
    check_sampling,
    check_published_sounds,
    check_sound_lengths,
]
