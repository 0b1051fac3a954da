"""What was measured of a version's explanations, in sentences; needs no torch."""

import math
from collections.abc import Mapping
from typing import Any

GONE = "gone"


def survival(verdict: str, measures: Mapping[str, Any]) -> str:
    """What an approval depends on, in words."""
    left = "" if measures.get("left") is None else f"{number(measures['left'])} of their order is left"
    chance = f"unrelated maps of this size: {number(measures['chance'])}"
    if verdict == "survive":
        return f"NO: {left} ({chance}), so they do not show what the network learnt"
    if verdict == GONE:
        return f"yes: {left} ({chance})"
    return f"NOT JUDGED: too few maps, or too small ones, can be compared ({chance})"


def told(verdict: str, measures: Any) -> tuple[str, list[tuple[str, str]], list[tuple[str, str, str]]]:
    """The verdict, `sentences` and `layers` of what is on record.

    Raises:
        ValueError: it was not written by this program.
    """
    try:
        words, found, by_layer = survival(verdict, measures), sentences(measures), layers(measures)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise ValueError("the recorded measures cannot be read") from problem
    if not all(isinstance(name, str) for name, *_ in by_layer):
        raise ValueError("the recorded measures cannot be read")
    return words, found, by_layer


def sentences(measures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, how much and beside which control) of the `measures` of an `explanation-quality/1` record."""

    def known(*names: str) -> bool:
        return all(measures.get(name) is not None for name in names)

    rows = [("measured on", f"{measures['images']} images, {measures['defects']} of them defective")]
    if measures["degenerate"]:
        rows.append(("explain nothing", f"{measures['degenerate']} of the {measures['defects']}"))
    if known("pointing", "pointing_chance"):
        rows.append(
            (
                "peak on the defect",
                f"{share(measures['pointing'])} of {measures['masked']} (a random cell: {share(measures['pointing_chance'])})",
            )
        )
    if known("relevance_mass", "mass_chance"):
        rows.append(
            (
                "evidence inside the mask",
                f"{share(measures['relevance_mass'])} (spread evenly: {share(measures['mass_chance'])})",
            )
        )
    for name, words in (("deletion", "lower is better"), ("insertion", "higher is better")):
        curve = measures[name]
        rows.append(
            (
                f"{name} area",
                f"{number(curve['explanation'])}, {words} (random order: {number(curve['random'])}, edges of the image: "
                f"{number(curve['edges'])})",
            )
        )
    if known("other_defect"):
        rows.append(("likeness to the least likely defect", f"rank correlation {number(measures['other_defect'])}"))
    if known("good_class"):
        rows.append(("likeness to the good class", f"rank correlation {number(measures['good_class'])}"))
    if known("sensitivity"):
        rows.append(("change under 2 % noise", f"{share(measures['sensitivity'])} of the map at most, on average"))
    if known("good_peak"):
        rows.append(("good parts that light up", f"{share(measures['good_peak'])} more than the median defect"))
    return rows


def layers(measures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """By group of parameters, from the output down: its name, and what is left of the maps with it random, alone and in turn."""

    def plain(value: str | None) -> str:
        return "-" if value is None else number(value)

    return [(one["layer"], plain(one["alone"]), plain(one["cascading"])) for one in measures["randomisation"]]


def share(value: str) -> str:
    """A decimal string as a percentage."""
    return f"{_finite(value):.1%}"


def number(value: str) -> str:
    """A decimal string to two digits."""
    return f"{_finite(value):.2f}"


def _finite(value: str) -> float:
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{value} is no measure")
    return found
