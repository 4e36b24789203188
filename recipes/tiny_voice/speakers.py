"""The speakers of the data. README.md has what a recogniser and a judge of quality make of each of them."""

from .teachers import Speaker

SPEAKERS = [
    Speaker("heart", 12),
]
