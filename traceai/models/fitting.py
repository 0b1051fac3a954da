"""The optimisation: crops, then whole images; AdamW under a warm-up and a cosine; averaged weights are kept."""

import copy
import math
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from traceai.explain.tracing import cut, pooled_linear
from traceai.images.preprocess import Preprocessing
from traceai.models.guidance import GridGuidance
from traceai.models.pixels import Pixels
from traceai.models.prediction import normalised
from traceai.models.scores import GOOD
from traceai.models.training_settings import TrainingSettings
from traceai.models.views import Batch, Views

Progress = Callable[[int, int, float], None]

_WARM_UP = 0.2
# One cell of two hundred must be able to outvote the others in their mean, so the head's weights have far to go; an
# optimiser whose steps have a fixed size would take longer over it than the whole training.
_HEAD_RATE = 10.0
_MAX_GRADIENT = 5.0
_TIMED_STEPS = 3
_FEWEST_STEPS = 10


class Fit:
    """One training run. All randomness comes from `settings.seed`; torch's global state is neither read nor written."""

    def __init__(
        self,
        settings: TrainingSettings,
        module: nn.Module,
        pixels: Pixels,
        preprocessing: Preprocessing,
        classes: Sequence[str],
    ) -> None:
        self._settings = settings
        self._module = module
        self._pixels = pixels
        self._preprocessing = preprocessing
        self._classes = len(classes)
        self._background = classes.index(GOOD) if GOOD in classes else None
        # Masks mean something only where there is a class for what lies outside them.
        defective = pixels.labels != (-1 if self._background is None else self._background)
        masked = self._background is not None and bool((pixels.located & defective).any())
        self._crop_share = settings.crop_share if masked else 0.0
        self._guided = masked and settings.guidance > 0

    def run(self, progress: Progress) -> tuple[nn.Module, int]:
        """The fitted network in evaluation mode, and the number of steps taken."""
        budget = self._settings.max_seconds
        steps = self._settings.steps if budget is None else self._affordable_steps(budget)
        run = _Steps(self, copy.deepcopy(self._module), steps)
        crops = round(self._crop_share * steps)
        for done in range(steps):
            progress(done + 1, steps, run.step(crop=done < crops))
        return run.averaged.eval(), steps

    def _affordable_steps(self, seconds: float) -> int:
        """Times a few steps of both kinds on a copy that is then dropped."""
        started = time.monotonic()
        trial = _Steps(self, copy.deepcopy(self._module), 100)
        cost = 0.0
        for share, crop in ((self._crop_share, True), (1 - self._crop_share, False)):
            if share:
                trial.step(crop=crop)
                before = time.monotonic()
                for _ in range(_TIMED_STEPS):
                    trial.step(crop=crop)
                cost += share * (time.monotonic() - before) / _TIMED_STEPS
        left = seconds - (time.monotonic() - started)
        return max(_FEWEST_STEPS, int(left / cost))


class _Steps:
    """The state of one optimisation: weights, optimiser, schedule, averages and the generator of all randomness."""

    def __init__(self, fit: Fit, module: nn.Module, steps: int) -> None:
        self._fit = fit
        self._settings = settings = fit._settings
        self._module = module.train()
        self.averaged = copy.deepcopy(module).requires_grad_(False)
        self._trunk, self._head, _ = cut(self._module, None)
        self._linear = pooled_linear(self._head)
        self._guidance = None
        if fit._background is not None and self._linear is not None:
            self._guidance = GridGuidance(fit._background)
        scale = [] if self._guidance is None else list(self._guidance.parameters())
        rate, decay = settings.learning_rate, settings.weight_decay
        last = [] if self._linear is None else list(self._linear.parameters())
        others = [parameter for parameter in module.parameters() if not any(parameter is one for one in last)]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": others, "lr": rate, "weight_decay": decay},
                {"params": last, "lr": rate * _HEAD_RATE, "weight_decay": decay / _HEAD_RATE},
                {"params": scale, "lr": rate, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.99),
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda done: _rate(done, steps))
        self._done = 0
        generator = torch.Generator().manual_seed(settings.seed)
        weights = balanced_weights(fit._pixels.labels, fit._classes, fit._background, settings.good_share)
        self._views = Views(
            fit._pixels,
            weights=weights,
            augmentation=settings.augmentation,
            background=fit._background,
            transplants=settings.transplants,
            generator=generator,
        )

    def step(self, *, crop: bool) -> float:
        """One optimiser step; returns its loss."""
        settings = self._settings
        if crop:
            # A transformer has as many position embeddings as its input has patches.
            side = (settings.crop_side,) * 2 if settings.family == "resnet" else (settings.height, settings.width)
            batch = self._views.crops(settings.crop_batch_size, side, settings.crop_smallest)
        else:
            batch = self._views.whole(settings.batch_size)
        loss = self._loss(batch)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        nn.utils.clip_grad_norm_(self._module.parameters(), _MAX_GRADIENT)
        self._optimizer.step()
        self._schedule.step()
        self._average()
        return loss.item()

    def _loss(self, views: Batch) -> Tensor:
        # Channels last makes convolutions on the CPU up to half as fast again.
        batch = normalised(views.images, self._fit._preprocessing).contiguous(memory_format=torch.channels_last)
        features = self._trunk(batch)
        if self._linear is None:
            logits = self._head(*features)
            return _certain_mean(F.cross_entropy(logits, views.labels, reduction="none"), views.certain)
        cells = F.conv2d(features, self._linear.weight[:, :, None, None], self._linear.bias)
        # The head is linear, so the mean of what it says of each cell is what it says of the mean: the logits.
        logits = cells.mean(dim=(2, 3))
        loss = _certain_mean(F.cross_entropy(logits, views.labels, reduction="none"), views.certain)
        if self._fit._guided and self._guidance is not None:
            loss = loss + self._settings.guidance * self._guidance(cells, views.masks, views.labels, views.located)
        return loss

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of weights and batch statistics; short at first, when they change fastest."""
        decay = min(self._settings.averaging, (1 + self._done) / (10 + self._done))
        for kept, current in zip(self.averaged.state_dict().values(), self._module.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(current, 1 - decay)
            else:
                kept.copy_(current)
        self._done += 1


def _certain_mean(each: Tensor, certain: Tensor) -> Tensor:
    return (each * certain).sum() / certain.sum().clamp(min=1)


def balanced_weights(labels: Tensor, classes: int, background: int | None, good_share: float) -> Tensor:
    """How often each image is drawn, (N,), summing to one.

    Good parts take `good_share` together; types share the rest by the square root of their counts, a compromise
    between drawing rare types too seldom and repeating their few images too often.
    """
    counts = torch.bincount(labels, minlength=classes).double()
    share = counts.sqrt()
    if background is not None and counts[background] > 0 and counts.sum() > counts[background]:
        share[background] = 0.0
        share = share / share.sum() * (1 - good_share)
        share[background] = good_share
    share = share / share.sum()
    return (share / counts.clamp(min=1))[labels]


def _rate(done: int, steps: int) -> float:
    """The learning rate's factor: linear warm-up, then half a cosine to zero."""
    warm = max(1, round(_WARM_UP * steps))
    if done < warm:
        return (done + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (done - warm + 1) / max(1, steps - warm)))
