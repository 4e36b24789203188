"""How far a decoded waveform is from the teacher's: log-mel and phase-aware spectral distances.

A patch decoder has no overlap between its 10 ms patches, so the short windows see its seams, the long ones see
pitch, and the compressed complex spectrum is the one term that asks for the right phase.
"""

from functools import cache

import torch
from torch import Tensor

RATE = 24_000
MEL_SCALES = ((2048, 120), (1024, 80), (512, 48), (256, 24), (128, 12))
PHASE_WINDOWS = (1024, 256)  # two of the above
# -80 dB. A lower floor lets near-silent frames, where the logarithm is steepest, drown all other gradients.
LOG_FLOOR = 1e-4
MEL_WEIGHT, PHASE_WEIGHT, WAVE_WEIGHT, COMMITMENT_WEIGHT = 1.0, 1.0, 1.0, 0.25


def hz_to_mel(hz: Tensor) -> Tensor:
    return 2595 * torch.log10(1 + hz / 700)


@cache
def mel_filters(window: int, bands: int, device: str) -> Tensor:
    """(bins, bands): triangles evenly spaced in mel, each summing to one."""
    mels = torch.linspace(0, float(hz_to_mel(torch.tensor(RATE / 2))), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = torch.linspace(0, RATE / 2, window // 2 + 1)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rise, fall).clamp(min=0)
    return (filters / filters.sum(0).clamp(min=1e-4)).to(device)


@cache
def hann(window: int, device: str) -> Tensor:
    return torch.hann_window(window, device=device)


def spectrum(wave: Tensor, window: int) -> Tensor:
    """complex (B, T, bins), scaled so that a full-scale tone has magnitude near one."""
    shape = hann(window, str(wave.device))
    spec = torch.stft(wave, window, window // 4, window=shape, return_complex=True, pad_mode="constant")
    return spec.transpose(1, 2) * (2 / shape.sum())


def magnitude(spec: Tensor) -> Tensor:
    return torch.sqrt(spec.real.square() + spec.imag.square() + 1e-6)


def log_mel(spec: Tensor, window: int, bands: int) -> Tensor:
    return torch.log(magnitude(spec) @ mel_filters(window, bands, str(spec.device)) + LOG_FLOOR)


def compressed(spec: Tensor) -> Tensor:
    """Magnitudes to the power 0.3, phases as they are: real (..., 2)."""
    return torch.view_as_real(spec * magnitude(spec) ** -0.7)


def gap(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean()


@torch.autocast("cpu", enabled=False)
@torch.autocast("cuda", enabled=False)
def reconstruction(made: Tensor, real: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum without the commitment term, and its parts for the log.

    "mel" is the mean absolute difference of natural-log mel spectra over all scales, "phase" that of complex spectra.
    """
    made, real = made.float(), real.float()
    mels, phases = [], []
    for window, bands in MEL_SCALES:
        a, b = spectrum(made, window), spectrum(real, window)
        mels.append(gap(log_mel(a, window, bands), log_mel(b, window, bands)))
        if window in PHASE_WINDOWS:
            phases.append(gap(compressed(a), compressed(b)))
    parts = {"mel": torch.stack(mels).mean(), "phase": torch.stack(phases).mean(), "wave": gap(made, real)}
    total = MEL_WEIGHT * parts["mel"] + PHASE_WEIGHT * parts["phase"] + WAVE_WEIGHT * parts["wave"]
    return total, {name: part.detach() for name, part in parts.items()}
