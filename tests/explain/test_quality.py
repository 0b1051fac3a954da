"""The measures tell a good explanation from a bad one, on networks where it is known which is which."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.explain import networks
from tests.explain.networks import SIDE, batch, trained
from traceai.errors import ModelError
from traceai.explain import Split, split
from traceai.explain.quality import Images, measure
from traceai.explain.randomising import groups, rank_correlation, similarity

DEFECTS, GOOD = (1, 2), 0


class Bright(nn.Module):
    """Its trunk is how bright each cell is and its head says so: "bright" where the brightest is, "dark" is the opposite."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.AvgPool2d(4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1, 3)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[0.0], [-40.0], [40.0]]))
            self.fc.bias.copy_(torch.tensor([0.5, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(self.trunk(x)).flatten(1))


def spots(count: int = 12) -> Images:
    """Squares of 8 x 8 at 1 on noise around 0, every third image without."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(count, 1, SIDE, SIDE, generator=generator) * 0.02
    masks = torch.zeros(count, SIDE, SIDE)
    defective = torch.arange(count) % 3 > 0
    for number in torch.nonzero(defective).flatten().tolist():
        row, column = (4 * torch.randint(0, SIDE // 4 - 2, (2,), generator=generator)).tolist()
        images[number, 0, row : row + 8, column : column + 8] = 1.0
        masks[number, row : row + 8, column : column + 8] = 1.0
    return Images(images, torch.ones(1), defective, masks, torch.ones(count, dtype=torch.bool))


def bright() -> Split:
    module = Bright().eval()
    return Split.of(module.trunk, nn.Sequential(module.pool, nn.Flatten(), module.fc).eval())


def test_an_explanation_that_points_at_the_defect_is_seen_to() -> None:
    found = measure(bright(), spots(), defects=DEFECTS, good=GOOD)
    assert (found.images, found.defects, found.degenerate) == (12, 8, 0)
    assert found.pointing == 1.0
    assert found.pointing_chance == pytest.approx(4 / 144)
    assert found.relevance_mass > 0.8
    assert found.mass_chance == pytest.approx(64 / SIDE**2)
    assert found.deletion.explanation < min(found.deletion.random, found.deletion.edges) - 0.05
    assert found.insertion.explanation > max(found.insertion.random, found.insertion.edges) + 0.05
    assert found.good_peak == 0.0
    assert found.other_defect == pytest.approx(-1.0)


def test_one_that_points_away_is_seen_to() -> None:
    class Away(nn.Module):
        """The same evidence, turned about: left is right."""

        def __init__(self, trunk: nn.Module) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self, x: Tensor) -> Tensor:
            return self.trunk(x).flip(3)

    parts = bright()
    found = measure(Split.of(Away(parts.trunk).eval(), parts.head), spots(), defects=DEFECTS, good=GOOD)
    assert found.pointing < 0.5
    assert found.relevance_mass < 0.3
    assert found.deletion.explanation > measure(bright(), spots(), defects=DEFECTS, good=GOOD).deletion.explanation


def test_a_map_of_the_image_survives_random_weights() -> None:
    """`Bright` explains with the image itself whatever its weights are: the failure that the check is there to find."""
    found = measure(bright(), spots(), defects=DEFECTS, good=GOOD).randomisation
    assert found.verdict == "survive"
    assert found.left == pytest.approx(1.0)


@pytest.mark.parametrize("gain", [nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)])
def test_no_layer_of_one_number_hides_that_it_does(gain: nn.Module) -> None:
    parts = bright()
    gained = nn.Sequential(gain, parts.trunk).eval()
    nn.init.ones_(gain.weight)
    found = measure(Split.of(gained, parts.head), spots(), defects=DEFECTS, good=GOOD).randomisation
    assert found.verdict == "survive"


def test_weights_that_are_kept_as_buffers_are_weights() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", Bright().fc.weight.detach().clone())

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) @ self.weight.T

    parts = Split.of(bright().trunk, Frozen().eval())
    found = measure(parts, spots(), defects=DEFECTS, good=GOOD).randomisation
    assert [one.layer for one in found.layers] == ["head"]
    assert found.verdict == "survive"


def test_images_that_show_nothing_do_not_hide_it() -> None:
    given = spots()
    flat = torch.full((12, 1, SIDE, SIDE), 0.5)
    none = torch.zeros(12, SIDE, SIDE)
    both = Images(
        torch.cat([given.batch, flat]), given.black_to_white, torch.cat([given.defective, torch.ones(12, dtype=torch.bool)]),
        torch.cat([given.masks, none]), torch.ones(24, dtype=torch.bool),
    )  # fmt: skip
    assert measure(bright(), both, defects=DEFECTS, good=GOOD).randomisation.verdict == "survive"
    only = Images(flat, given.black_to_white, torch.ones(12, dtype=torch.bool), none, torch.ones(12, dtype=torch.bool))
    found = measure(bright(), only, defects=DEFECTS, good=GOOD)
    assert found.randomisation.verdict == "not-judged"
    assert found.degenerate == 12
    assert found.sensitivity is None
    assert "nan" not in str(found.to_record())


def test_grids_of_few_cells_are_alike_by_chance_and_not_judged() -> None:
    parts = Split.of(nn.AvgPool2d(SIDE // 2).eval(), bright().head)
    found = measure(parts, spots(), defects=DEFECTS, good=GOOD).randomisation
    assert found.verdict == "not-judged"
    assert found.chance > 0.4


def test_an_output_that_is_no_number_is_refused() -> None:
    parts = bright()
    with torch.no_grad():
        parts.linear.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not a finite number"):
        measure(parts, spots(), defects=DEFECTS, good=GOOD)


def test_a_learnt_map_goes_with_the_weights() -> None:
    module = trained(networks.resnet)
    parts = split(module, probe=batch(2)[0])
    images, labels = batch(24, seed=7)
    given = Images(images, torch.ones(1), labels > 0, torch.zeros(24, SIDE, SIDE), torch.zeros(24, dtype=torch.bool))
    with torch.inference_mode():
        found = measure(parts, given, defects=DEFECTS, good=GOOD, names=module)
    random = found.randomisation
    assert random.layers[0].layer == "classifier.1"
    assert random.layers[-1].layer == "resnet.embedder.embedder.convolution"
    assert random.verdict == "gone"
    assert random.chance < 0.2
    assert (found.masked, found.pointing, found.relevance_mass) == (0, None, None)


def test_one_image_a_network_of_batch_statistics_and_a_temperature() -> None:
    class Cooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.temperature = nn.Parameter(torch.tensor(2.0))
            self.norm, self.fc = nn.BatchNorm1d(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.norm(x.mean((2, 3)))) / self.temperature

    parts = Split.of(networks.PlainNet().body.eval(), Cooled().eval())
    given = spots(3)
    one = Images(given.batch[1:2], given.black_to_white, given.defective[1:2], given.masks[1:2], given.located[1:2])
    found = measure(parts, one, defects=DEFECTS, good=GOOD)
    assert {"head.temperature", "head.norm", "head.fc"} <= {layer for layer, _ in groups(parts)}
    assert found.defects == 1


def test_a_network_in_half_precision_is_measured() -> None:
    module = trained(networks.vit).bfloat16()
    parts = split(module, probe=batch(2)[0].bfloat16())
    images, labels = batch(6, seed=7)
    given = Images(images, torch.ones(1), labels > 0, torch.zeros(6, SIDE, SIDE), torch.zeros(6, dtype=torch.bool))
    assert measure(parts, given, defects=DEFECTS, good=GOOD, names=module).images == 6


def test_the_parts_of_a_transformer_are_made_random_one_by_one() -> None:
    module = trained(networks.vit)
    parts = split(module, probe=batch(2)[0])
    named = [name for name, _ in groups(parts, module)]
    assert named[0] == "classifier"
    assert named.index("vit.layernorm") < named.index("vit.layers.2") < named.index("vit.layers.0")
    assert {"vit.embeddings.cls_token", "vit.embeddings.position_embeddings"} < set(named)
    members = [number for _, numbers in groups(parts, module) for number in numbers]
    assert sorted(members) == list(range(len(list(module.parameters()))))


def test_measuring_changes_nothing_and_repeats() -> None:
    module = trained(networks.resnet)
    before = copy.deepcopy(module.state_dict())
    parts = split(module, probe=batch(2)[0])
    images, labels = batch(12, seed=7)
    given = Images(images, torch.ones(1), labels > 0, torch.zeros(12, SIDE, SIDE), torch.zeros(12, dtype=torch.bool))
    steps: list[tuple[int, int]] = []
    first = measure(
        parts, given, defects=DEFECTS, good=GOOD, names=module, progress=lambda done, total: steps.append((done, total))
    )
    assert first == measure(parts, given, defects=DEFECTS, good=GOOD, names=module)
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert not any(part.training for part in module.modules())
    record = first.to_record()
    assert record["randomisation"][0]["layer"] == "classifier.1"
    assert all(isinstance(value, str | int | list | dict | None) for value in record.values())


def test_without_a_defective_image_there_is_nothing_to_measure() -> None:
    given = spots(3)
    nothing = Images(given.batch, given.black_to_white, torch.zeros(3, dtype=torch.bool), given.masks, given.located)
    with pytest.raises(ModelError, match="another split"):
        measure(bright(), nothing, defects=DEFECTS, good=GOOD)


def test_rank_correlation_is_spearmans() -> None:
    one = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert rank_correlation(one, one**3) == pytest.approx(1.0)
    assert rank_correlation(one, -one) == pytest.approx(-1.0)
    assert rank_correlation(one, torch.tensor([[2.0, 1.0], [3.0, 4.0]])) == pytest.approx(0.8)
    assert rank_correlation(one, torch.ones(2, 2)) is None
    assert rank_correlation(one, torch.tensor([[float("nan"), 1.0], [3.0, 4.0]])) is None
    assert similarity(one[None], torch.ones(1, 2, 2)) is None
    assert similarity(one[None], -one[None]) == pytest.approx(1.0)
