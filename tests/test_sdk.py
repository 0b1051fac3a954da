from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

import traceai
from traceai.errors import AlreadyExistsError, InputError, ModelError, SplitError
from traceai.explain.splitting import Split
from traceai.images.preprocess import Preprocessing
from traceai.ledger.verification import verifier
from traceai.models.operating_point import OperatingPoint
from traceai.sdk import Trace
from traceai.settings import Settings

PREPROCESSING = Preprocessing(height=32, width=32, channels=1, mean=("0.5",), std=("0.25",))
POINT = OperatingPoint(pass_below="0.3", reject_at="0.7")


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    features = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
    return nn.Sequential(
        OrderedDict(features=features, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(8, 3))
    )


def register(trace: Trace, module: nn.Module, **more: object) -> str:
    options = {"classes": ("good", "dent", "scratch"), "preprocessing": PREPROCESSING, "split": "features"}
    return trace.register_model("mine", module, **{**options, "operating_point": POINT, **more})


@pytest.fixture
def station(trace: Trace) -> str:
    trace.add_station("press-4")
    return "press-4"


def test_an_existing_network_becomes_traceable(trace: Trace, station: str, images: Sequence[Path]) -> None:
    reference = register(trace, network())
    decision = trace.inspector(model=reference, station=station).inspect(images[0], serial="SN-1")
    assert reference == "mine@1"
    assert decision.verdict in set(traceai.Verdict)
    assert decision.explanation.grid.shape == (7, 7)
    assert decision.receipt.index > 0
    assert verifier.verify(trace.database.engine, trace.blobs).holds


def test_another_process_brings_the_code_and_gets_the_registered_weights(
    trace: Trace, station: str, images: Sequence[Path]
) -> None:
    reference = register(trace, network())
    expected = trace.inspector(reference, station).inspect(images[0])
    other = Trace(trace.settings, trace.database, trace.blobs)
    with pytest.raises(ModelError, match="module="):
        other.inspector(reference, station)
    decision = other.inspector(reference, station, module=network(seed=5)).inspect(images[0])
    assert decision.scores == expected.scores
    assert (decision.explanation.grid == expected.explanation.grid).all()


def test_trunk_and_head_can_be_given(trace: Trace, station: str, images: Sequence[Path]) -> None:
    module = network()
    by_name = trace.inspector(register(trace, module), station).inspect(images[0])
    parts = Split.of(module.features, module[1:], layer="features")
    by_hand = trace.inspector(register(trace, module, split=parts), station).inspect(images[0])
    assert (by_name.explanation.grid == by_hand.explanation.grid).all()


@pytest.mark.parametrize("name", ["a@2", "Mine", "", "a b", "a/b", "x" * 65])
def test_a_name_that_a_version_could_not_be_told_by_is_refused(trace: Trace, name: str) -> None:
    with pytest.raises(ModelError, match="no name for a model"):
        trace.register_model(
            name, network(), classes=("good", "dent", "scratch"), preprocessing=PREPROCESSING, split="features"
        )


def test_what_does_not_fit_is_refused_and_leaves_no_version(trace: Trace) -> None:
    with pytest.raises(ModelError, match="3 outputs and 2 classes"):
        register(trace, network(), classes=("good", "dent"))
    with pytest.raises(SplitError):
        register(trace, network(), split="nothing")
    assert register(trace, network()) == "mine@1"


def test_connect_reads_the_environment(clone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEAI_DATABASE_URL", clone)
    monkeypatch.setenv("TRACEAI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRACEAI_BLOBS", f"file://{tmp_path}/elsewhere")
    with traceai.connect() as trace:
        digest = trace.blobs.put(b"evidence")
    assert (tmp_path / "elsewhere" / trace.blobs.path(digest)).read_bytes() == b"evidence"


def test_a_station_is_added_once_and_with_a_probability_that_estimates(trace: Trace) -> None:
    trace.add_station("press-4", audit_pass_probability=1.0)
    with pytest.raises(AlreadyExistsError):
        trace.add_station("press-4")
    for probability in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(InputError):
            trace.add_station("press-5", audit_pass_probability=probability)
    for name in ("", " ", "a\nb", "x" * 201):
        with pytest.raises(InputError):
            trace.add_station(name)


def test_root_and_others_have_a_home_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert Settings().home == Path("/var/lib/traceai")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert Settings().home != Path("/var/lib/traceai")
    assert Settings().home.name == "traceai"
