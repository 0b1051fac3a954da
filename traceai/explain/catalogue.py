"""The explanation methods that are offered on demand, and those that are refused: names, papers, and how to read each.

Needs no torch: `methods` has what they compute.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from traceai.errors import InputError, MethodNotOfferedError


@dataclass(frozen=True, slots=True)
class Legend:
    """What the colours of a picture stand for; `{target}` is the explained class.

    Attributes:
        value: the method, and what one value of its map is.
        about: what the picture shows. ends: what the two ends of its scale mean.
        signed: the scale is symmetric around zero; else it goes from the least value to the largest.
    """

    value: str
    about: str = "evidence for: {target}"
    ends: tuple[str, str] = ("against", "for {target}")
    signed: bool = True


@dataclass(frozen=True, slots=True)
class Method:
    """One way to ask a network afterwards why it answered as it did.

    Attributes:
        name: as it is typed.
        paper: where it was published.
        legend: how its pictures are read.
        fine: one value a pixel and noisy from pixel to pixel, so that its largest values say little.
        layered: looks at a layer, which may be named.
    """

    name: str
    paper: str
    legend: Legend
    fine: bool = False
    layered: bool = False

    @property
    def signed(self) -> bool:
        """Values below zero argue against the target. A map that is not signed is zero or more, and belongs to no class."""
        return self.legend.signed

    def require_layer_fits(self, layer: str | None) -> None:
        """Raises:
        InputError: a layer is named and this method looks at none.
        """
        if layer is not None and not self.layered:
            raise InputError(
                f"{self.name} explains the whole network and takes no layer; leave it out, or choose grad-cam."
            )


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            "integrated-gradients",
            "Sundararajan, Taly and Yan, ICML 2017",
            Legend("Integrated gradients: part of the logit, per pixel"),
            fine=True,
        ),
        Method(
            "occlusion",
            "Zeiler and Fergus, ECCV 2014",
            Legend("Occlusion: fall of the logit when covered"),
        ),
        Method(
            "saliency",
            "Simonyan, Vedaldi and Zisserman, ICLR workshop 2014",
            Legend(
                "Saliency: slope of the logit, per pixel",
                "what would raise: {target}",
                ("a darker pixel", "a brighter pixel"),
            ),
            fine=True,
        ),
        Method(
            "input-x-gradient",
            "Shrikumar, Greenside, Shcherbina and Kundaje, 2016",
            Legend("Input x gradient: pixel times slope"),
            fine=True,
        ),
        Method(
            "grad-cam",
            "Selvaraju et al., ICCV 2017",
            Legend("Grad-CAM: contribution to the logit, per cell"),
            layered=True,
        ),
        Method(
            "attention-rollout",
            "Abnar and Zuidema, ACL 2020",
            Legend(
                "Attention rollout: attention paid, per patch",
                "of no class: not evidence for or against",
                ("least", "most attention"),
                signed=False,
            ),
        ),
    )
}

_GUIDED = (
    "{} is not offered: its pictures hardly change when the network's upper layers are given random weights, so they show the "
    "edges of the image and not the reasons of the decision (Adebayo et al. 2018, Nie et al. 2018, Sixt et al. 2020)"
)
REFUSED: Mapping[str, str] = {
    "guided-backprop": _GUIDED.format("Guided Backpropagation"),
    "guided-backpropagation": _GUIDED.format("Guided Backpropagation"),
    "guided-grad-cam": _GUIDED.format("Guided Grad-CAM"),
    "guided-gradcam": _GUIDED.format("Guided Grad-CAM"),
}


def find(name: str) -> Method:
    """The method that `name` names, however its words are joined.

    Raises:
        MethodNotOfferedError: there is none, or it is refused, and why.
    """
    asked = name.strip().lower().replace("_", "-").replace(" ", "-")
    if asked in METHODS:
        return METHODS[asked]
    offered = f"choose one of {', '.join(METHODS)}"
    if asked in REFUSED:
        raise MethodNotOfferedError(f"{REFUSED[asked]}; {offered}.")
    raise MethodNotOfferedError(f"There is no explanation method {name!r:.80}; {offered}.")
