"""What was measured of a version's explanations, in sentences; needs no torch."""

from collections.abc import Mapping
from typing import Any


def survival(survives: bool) -> str:
    """The finding that an approval depends on."""
    if survives:
        return "NO: they stay as they are when all weights are random, so they do not show what the network learnt"
    return "yes: with random weights they are gone"


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
                f"{share(measures['pointing'])} (a random cell: {share(measures['pointing_chance'])})",
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
    rows.append(("change under 2 % noise", f"{share(measures['sensitivity'])} of the map at most, on average"))
    if known("good_peak"):
        rows.append(("good parts that light up", f"{share(measures['good_peak'])} more than the median defect"))
    return rows


def layers(measures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """By group of parameters, from the output down: its name, and what is left of the maps with it random, alone and in turn."""
    return [(one["layer"], number(one["alone"]), number(one["cascading"])) for one in measures["randomisation"]]


def share(value: str) -> str:
    """A decimal string as a percentage."""
    return f"{float(value):.1%}"


def number(value: str) -> str:
    """A decimal string to two digits."""
    return f"{float(value):.2f}"
