"""Right for the right reasons: the class evidence of every cell is held against the defect mask.

Constraining explanations during training follows Ross, Hughes and Doshi-Velez (IJCAI 2017). They penalise input
gradients outside an annotation; here the head is linear, so the evidence itself is in closed form and can be
supervised directly: cell by cell it is a classification, as in Zhou et al. (CVPR 2016) read backwards.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# A cell counts as defective from this share of mask, or from half of what the fullest cell of the image has: a crack
# thinner than a cell never fills one.
_CELL_SHARE = 0.15


class GridGuidance(nn.Module):
    """Loss of the evidence grid against the mask; its two parameters serve the training only and are then dropped.

    A cell's evidence must be unbounded for one small defect to outweigh a hundred sound cells in the mean, so its
    scale and the offset of "good" are learnt here rather than fixed.
    """

    def __init__(self, background: int) -> None:
        super().__init__()
        self.background = background
        self.log_scale = nn.Parameter(torch.tensor(-2.3))
        self.offset = nn.Parameter(torch.tensor(0.0))

    def forward(self, cells: Tensor, masks: Tensor, labels: Tensor, located: Tensor) -> Tensor:
        """Cross-entropy of defective cells plus that of sound cells, each averaged per image first.

        Args:
            cells: (N, C, h, w), the linear layer applied to every position of the feature map.
            masks: (N, 1, H, W) in 0..1.
            labels: (N,), the class of the defective cells.
            located: (N,) bool; images whose defects are in no mask are left out.
        """
        share = F.adaptive_avg_pool2d((masks > 0.5).float(), (cells.shape[2], cells.shape[3]))[:, 0]
        fullest = share.amax(dim=(1, 2), keepdim=True)
        defective = (share > 0) & ((share >= _CELL_SHARE) | (share >= 0.5 * fullest))
        sound = share == 0
        scaled = cells * self.log_scale.exp()
        background = torch.zeros(cells.shape[1]).index_fill(0, torch.tensor(self.background), 1.0)
        scaled = scaled + self.offset * background[:, None, None]
        wanted = torch.where(defective, labels[:, None, None], self.background)
        loss = F.cross_entropy(scaled, wanted, reduction="none")
        usable = located[:, None, None]
        return _mean_of_means(loss, defective & usable) + _mean_of_means(loss, sound & usable)


def _mean_of_means(loss: Tensor, where: Tensor) -> Tensor:
    """Averaged within each image, then over the images with such cells: small defects weigh as much as large ones."""
    counts = where.sum(dim=(1, 2))
    per_image = (loss * where).sum(dim=(1, 2)) / counts.clamp(min=1)
    return per_image.sum() / (counts > 0).sum().clamp(min=1)
