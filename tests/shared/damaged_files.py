"""Files as a bad disk, a broken download or a wrong hand leaves them, at random places of a seeded generator."""

from __future__ import annotations

import random


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The bytes cut, or with flipped, other, more or fewer bytes in a few places, mostly near the ends, where headers are."""
    kind, changed = draw.randrange(6), bytearray(content)
    near = [draw.randrange(len(content)), draw.randrange(min(2000, len(content)))]
    places = [*near, len(content) - 1 - near[1]]
    place = draw.choice(places)
    if kind == 0:
        return content[:place]
    if kind == 1:
        changed[place : place + draw.choice((1, 8, 600))] = b""
    elif kind == 2:
        changed[place:place] = draw.randbytes(draw.choice((1, 8, 600)))
    elif kind == 3:
        for _ in range(draw.choice((1, 2, 20))):
            changed[draw.choice(places)] = draw.randrange(256)
            places = [draw.randrange(len(content)), *places[1:]]
    else:
        changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)
