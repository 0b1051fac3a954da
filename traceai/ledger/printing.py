"""What somebody else wrote, as it may be printed."""


def shown(text: str) -> str:
    """`text` with an escape for every character that moves a cursor, turns the direction of writing or cannot be seen."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
