"""`python -m moss_tts` is `moss-tts`."""

from moss_tts.cli import main

main()
