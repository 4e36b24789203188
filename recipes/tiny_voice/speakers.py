"""The speakers of the data. README.md has what a recogniser and a judge of quality make of each of them."""

from .teachers import Speaker

SPEAKERS = [
    Speaker("heart", 12),
    Speaker("heart-low", 3, size=0.76),
    Speaker("heart-mid", 3, size=0.9, pitch=1.1),
    Speaker("heart-high", 3, size=1.1),
    Speaker("kumo", 1, {"jm_kumo": 1}),
    Speaker("gongitsune", 1, {"jf_gongitsune": 1}),
    Speaker("kumo-high", 1, {"jm_kumo": 1}, size=1.12),
    Speaker("gongitsune-low", 1, {"jf_gongitsune": 1}, size=0.84),
    Speaker("kumo-gongitsune", 1, {"jm_kumo": 0.6, "jf_gongitsune": 0.4}),
    Speaker("tebukuro", 1, {"jf_tebukuro": 1}),
    Speaker("tebukuro-low", 1, {"jf_tebukuro": 1}, size=0.87),
    Speaker("kumo-low", 1, {"jm_kumo": 1}, size=0.92),
]
