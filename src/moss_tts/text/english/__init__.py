"""Written English as the words that a person reads out: numbers, dates, money, units, titles, initials, addresses.

Each module holds rules of one subject; `reading.py` applies them in order. Each works on one sentence at a time; its
characters are plain already (characters.py).
"""
