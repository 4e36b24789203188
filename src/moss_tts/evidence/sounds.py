"""What the golden of a sound model asks for, without knowledge of its sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.checkpoints.loading import CheckpointSource
from moss_tts.diffusion.description import clean, described
from moss_tts.diffusion.loading import EncoderOnDemand, SoundFiles
from moss_tts.diffusion.model import load_sound_model
from moss_tts.diffusion.noise import noise
from moss_tts.diffusion.sampler import Guide, denoise
from moss_tts.diffusion.schedule import Schedule
from moss_tts.diffusion.transformer import DiffusionTransformer, Text
from moss_tts.evidence.comparing import close, require, same
from moss_tts.evidence.goldens import cases, golden

# Cases that say something else than how a sound is made.
OTHERS = {"defaults", "crop_48k"}


def sound_cases(folder: Path) -> dict[str, dict[str, Any]]:
    """Options of each sound, with upstream's defaults."""
    defaults = cases(folder)["defaults"]
    return {name: {**defaults, **options} for name, options in cases(folder).items() if name not in OTHERS}


def text_cases(folder: Path) -> dict[str, Any]:
    """Texts, and what upstream makes of them."""
    return json.loads((folder / "text_cases.json").read_text())


def transformer_of(folder: Path) -> DiffusionTransformer:
    """The transformer of a folder in float32."""
    return SoundFiles.find(folder).load_transformer(mx.float32)


def check_sound_texts(folder: Path) -> None:
    """Texts are cleaned, sent and turned into tokens as upstream does."""
    texts = text_cases(folder)
    for given, wanted in texts["clean"]:
        require(clean(given) == wanted, f"{given!r} is cleaned to {clean(given)!r} instead of {wanted!r}.")
    encoder = SoundFiles.find(folder).load_prompt_encoder()
    for case in texts["cases"]:
        sent = described(case["prompt"], round(float(case["seconds"]), 1))
        require(
            (sent, clean(sent)) == (case["sent"], case["cleaned"]), f"{sent!r} is sent instead of {case['sent']!r}."
        )
        # Here a text never becomes a control token; upstream cuts long texts off.
        if "<|" not in sent:
            same(np.array(encoder.encode(clean(sent))[:512]), np.array(case["ids"]), f"the tokens of {sent!r}")


def check_sound_hidden_states(folder: Path) -> None:
    """The last hidden states of the text encoder are upstream's."""
    encoder, wanted = EncoderOnDemand(SoundFiles.find(folder), "float32"), golden(folder)
    names = [name.removesuffix(".ids") for name in wanted if name.endswith(".ids")]
    require(bool(names), "the golden has no texts.")
    for name in names:
        close(encoder(wanted[f"{name}.ids"].tolist()), wanted[f"{name}.hidden"], f"hidden states of {name}")


def check_schedule_and_noise(folder: Path) -> None:
    """Sigmas, timesteps, and the noise of a seed are upstream's."""
    wanted = golden(folder)
    for name in [name for name in wanted if name.startswith("sched.") and name.endswith(".sigmas")]:
        _, steps, *shift, _ = name.split(".")
        schedule = Schedule.of(int(steps), float(".".join(shift)))
        for what, made in (("sigmas", schedule.sigmas), ("timesteps", schedule.timesteps)):
            right = wanted[name.replace("sigmas", what)]
            close(made, right, f"{what} of {steps} steps", np.maximum(2e-7 * np.abs(right), np.finfo(np.float32).tiny))
    for name in [name for name in wanted if name.startswith("noise.")]:
        made = noise(int(name.split(".")[1]), (2, 128, 1500)).reshape(2, -1)
        parts = np.concatenate([made[:, :32], made[:, 96000 : 96000 + 32], made[:, -32:]], axis=1)
        close(parts, wanted[name], name, 1e-6)


def texts_of(folder: Path, network: DiffusionTransformer) -> dict[str, Text]:
    """A description, none, and one without a row of padding."""
    hidden, width = golden(folder), SoundFiles.find(folder).config.transformer.text_width
    texts = {"cond": hidden["text.0.hidden"], "uncond": np.zeros((0, width)), "full": hidden["text.long.hidden"]}
    return {name: network.text([mx.array(one)]) for name, one in texts.items()}


def check_velocities(folder: Path) -> None:
    """Velocities with a description, without one, and with one that fills all rows, are upstream's."""
    network, wanted = transformer_of(folder), golden(folder)
    latents = mx.array(wanted["dit.latents"])[None]
    times = network.times(wanted["dit.timesteps"])
    for name, text in texts_of(folder, network).items():
        made = mx.concatenate([network(latents, time, text) for time in times])
        close(made, wanted[f"dit.{name}.velocity"], f"velocities, {name}")


def check_transformer_seams(folder: Path) -> None:
    """Each part of a pass gives what upstream's gives."""
    network, wanted = transformer_of(folder), golden(folder)
    time = network.times(wanted["dit.timesteps"][1:2])[0]
    close((time.head - network.head.modulation)[0], wanted["seam.t"], "the times")
    close(time.blocks[0] - network.blocks[0].modulation, wanted["seam.t_mod"], "the modulation")
    text = texts_of(folder, network)["cond"]
    x = network.patch_embedding(mx.array(wanted["dit.latents"]).T[None])
    close(x[0], wanted["seam.patched"], "the patches")
    for index, block in enumerate(network.blocks):
        x = block(x, time.blocks[index], text, index, *network.angles(x.shape[1]))
        close(x[0], wanted[f"seam.block.{index}"], f"block {index}")


def check_sound_decoder(folder: Path) -> None:
    """Latents become upstream's waveform."""
    decoder, wanted = SoundFiles.find(folder).load_decoder(), golden(folder)
    close(decoder(mx.array(wanted["vae.latents"])), wanted["vae.wav"], "the waveform")


def check_sampling(folder: Path) -> None:
    """Whole sounds are upstream's: latents after each step, and the waveform."""
    files, wanted = SoundFiles.find(folder), golden(folder)
    network, decoder = files.load_transformer(mx.float32), files.load_decoder()
    encode, tokens = EncoderOnDemand(files, "float32"), files.load_prompt_encoder()
    for name, options in sound_cases(folder).items():
        hidden = [encode(tokens.encode(clean(sent))) for sent in options["sent"]]
        negative = encode(tokens.encode(clean(options["negative_prompt"])))
        start = wanted[f"sample.{name}.noise"]
        close(noise(options["seed"], start.shape), start, f"the noise of {name}", 1e-6)
        guide = Guide.of(network, hidden, negative, options["cfg_scale"])
        schedule = Schedule.of(options["num_inference_steps"], options.get("sigma_shift", 5.0))
        *steps, latents = denoise(network, guide, mx.array(start), schedule)
        for index, step in enumerate(steps, start=1):
            if f"sample.{name}.step.{index}" in wanted:
                close(step, wanted[f"sample.{name}.step.{index}"], f"step {index} of {name}")
        close(latents, wanted[f"sample.{name}.latents"], f"latents of {name}")
        # Upstream's sounds are a sample short for some durations.
        wave = np.concatenate(list(decoder.parts(latents, wanted[f"sample.{name}.wav"].shape[-1])), axis=1)
        close(wave, wanted[f"sample.{name}.wav"], f"the waveform of {name}")


def check_published_sounds(folder: Path) -> None:
    """The same sounds come from the options of `generate` and the directory as it is published."""
    wanted = golden(folder)
    with load_sound_model(CheckpointSource(str(folder), folder, from_hub=False), "float32") as model:
        for name, options in sound_cases(folder).items():
            requests = requests_of(options, wanted[f"sample.{name}.noise"])
            for place, request in requests.items():
                sent, right = model.request(request).sent, options["sent"][place]
                require(sent == right, f"sound {place} of {name} sends {sent!r} instead of {right!r}.")
            for index, result in model.generate_batch(list(requests.values())):
                place = list(requests)[index]
                wave = wanted[f"sample.{name}.wav"][place]
                # Upstream loses a sample of some durations.
                longer = len(result.audio) - len(wave)
                require(longer in (0, 1), f"sound {place} of {name} is {longer} samples longer.")
                close(result.audio[: len(wave)], wave, f"sound {place} of {name}")


def requests_of(options: dict[str, Any], noises: np.ndarray) -> dict[int, dict[str, Any]]:
    """The options of `generate` for the sounds of a case, by their places, with its noise (B, C, L).

    Sounds without a description are left out: `generate` refuses them.
    """
    prompts = [options["prompt"]] if isinstance(options["prompt"], str) else options["prompt"]
    return {
        index: {
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
    }


SOUND_CHECKS: list[Callable[[Path], None]] = [
    check_sound_texts,
    check_sound_hidden_states,
    check_schedule_and_noise,
    check_velocities,
    check_transformer_seams,
    check_sound_decoder,
    check_sampling,
    check_published_sounds,
]
