"""The explanation methods that are offered on demand, and those that are refused: names, papers, and how to read each.

Needs no torch: `methods` has what they compute.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from traceai.errors import InputError, MethodNotOfferedError


@dataclass(frozen=True, slots=True)
class Method:
    """One way to ask a network afterwards why it answered as it did.

    Attributes:
        name: as it is typed.
        title, value: the method's name and what one value of its map is, as a picture's legend says them.
        paper: where it was published.
        signed: values below zero argue against the target. An unsigned map is zero or more, and belongs to no class.
        fine: one value a pixel and noisy from pixel to pixel, so that its largest values say little.
        layered: looks at a layer, which may be named.
    """

    name: str
    title: str
    value: str
    paper: str
    signed: bool = True
    fine: bool = False
    layered: bool = False

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
            "Integrated gradients",
            "part of the logit, per pixel",
            "Sundararajan, Taly and Yan, ICML 2017",
            fine=True,
        ),
        Method(
            "occlusion",
            "Occlusion",
            "fall of the logit when covered",
            "Zeiler and Fergus, ECCV 2014",
        ),
        Method(
            "saliency",
            "Saliency",
            "slope of the logit, per pixel",
            "Simonyan, Vedaldi and Zisserman, ICLR workshop 2014",
            fine=True,
        ),
        Method(
            "input-x-gradient",
            "Input x gradient",
            "pixel times slope",
            "Shrikumar, Greenside, Shcherbina and Kundaje, 2016",
            fine=True,
        ),
        Method(
            "grad-cam",
            "Grad-CAM",
            "contribution to the logit, per cell",
            "Selvaraju et al., ICCV 2017",
            layered=True,
        ),
        Method(
            "attention-rollout",
            "Attention rollout",
            "attention paid, per patch",
            "Abnar and Zuidema, ACL 2020",
            signed=False,
        ),
    )
}

_GUIDED = (
    "{} is not offered: its pictures stay the same when the network's weights are replaced by random ones, so they show the "
    "image's edges and not the decision (Adebayo et al. 2018, Nie et al. 2018, Sixt et al. 2020)"
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
