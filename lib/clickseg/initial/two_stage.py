"""Initial segmentation in two stages: locate coarsely in the whole volume, outline finely.

A whole 448x448x80 volume at full resolution costs seconds a pass on a CPU, and 99.99 % of it is
no tumor. The coarse network sees all of it at a few mm; the fine one only a region of a few cm.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, logit
from torch import Tensor, nn

from clickseg.border import cheapest_border
from clickseg.boxes import Slices
from clickseg.config import TwoStageConfig
from clickseg.cuts import Box, shrink
from clickseg.doubt import most_uncertain
from clickseg.edges import follow_edges
from clickseg.initial.result import Initial
from clickseg.networks import build_network
from clickseg.precision import answering
from clickseg.study import Study

FAINTEST = 0.1
"""Where the coarse network reaches no 0.5, its maximum is tried if it is at least this."""

SURENESS = 8
"""What the fine network finds weighs the probability of its voxels to this power.

By the plain probability a wide place that it doubts wins over a small sure tumor. 0.7 is a twelfth
of 0.95, the most that there is where outlines follow edges.
"""

Candidate = tuple[NDArray[np.float64], NDArray[np.float64], float]

LEAST = np.float32(1e-6)
"""Of a probability whose logarithm is taken."""

LARGEST_MM = 60.0
"""No tumor is wider; what was located beyond is not looked at, so that no answer takes minutes."""

_NOTHING: tuple[float, Slices, NDArray[np.float32], NDArray[np.bool_]] = (
    0.0,
    (slice(0, 0), slice(0, 0), slice(0, 0)),
    np.zeros((0, 0, 0), dtype=np.float32),
    np.zeros((0, 0, 0), dtype=bool),
)


class TwoStageNetwork(nn.Module):
    """Both networks, so that they are saved, loaded and moved as one."""

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__()
        self.locate = build_network(config.locate.network.name, config.locate.network.arguments)
        self.segment = build_network(config.segment.network.name, config.segment.network.arguments)


class TwoStage:
    """Segment studies with a pair of trained networks."""

    def __init__(self, network: TwoStageNetwork, config: TwoStageConfig) -> None:
        self.network = network.eval()
        self.config = config

    @torch.inference_mode()
    def __call__(self, study: Study) -> Initial:
        """Return the initial outline of a study; empty where no tumor is found."""
        device = next(self.network.parameters(), torch.empty(0)).device
        image = torch.from_numpy(study.image).to(device)
        spacing_mm = study.grid.canonical.spacing_mm
        shape = study.grid.canonical.shape
        found = []
        for center_ijk, extent_mm, mass in self._locate(image, spacing_mm):
            box, prob = self._segment(image, spacing_mm, center_ijk, extent_mm)
            component, weight = surest_component(prob)
            # Both networks have a say: the coarse one takes a vessel for a tumor more easily.
            found.append((mass * weight, box, prob, component))
        best, box, prob, component = max(found, key=lambda item: item[0], default=_NOTHING)
        mask = study.grid.as_written(np.zeros(shape, dtype=np.uint8))
        if best == 0:
            return Initial(mask, prob, box, None)
        border = with_border(
            component, prob, study.image[(slice(None), *box)], spacing_mm, self.config
        )
        prob = np.where(border == component, prob, 1 - prob)
        mask[box] = border
        return Initial(mask, prob, box, most_uncertain([(prob, box)], spacing_mm))

    def _locate(self, image: Tensor, spacing_mm: NDArray[np.float64]) -> list[Candidate]:
        """Return where a tumor may be, likeliest first: center in voxels, extent in mm, mass."""
        coarse = shrink(image, spacing_mm.tolist(), self.config.locate.spacing_mm)
        prob = locate_prob(self.network.locate, coarse, self.config.locate.patch)
        ratio = np.array(image.shape[1:]) / np.array(coarse.shape[1:])
        found = []
        parts, _ = ndimage.label(prob > 0.5)
        for number, where in enumerate(ndimage.find_objects(parts), start=1):
            mass = float(prob[where][parts[where] == number].sum())
            start = np.array([part.start for part in where])
            stop = np.array([part.stop for part in where])
            found.append((mass, (start + stop) / 2 * ratio - 0.5, (stop - start) * ratio))
        if not found and prob.max() >= FAINTEST:
            peak = np.array(np.unravel_index(int(prob.argmax()), prob.shape))
            found.append((float(prob.max()), (peak + 0.5) * ratio - 0.5, ratio))
        found.sort(key=lambda item: -item[0])
        return [
            (center, extent * spacing_mm, mass)
            for mass, center, extent in found[: self.config.candidates]
        ]

    def region(
        self,
        spacing_mm: NDArray[np.float64],
        center_ijk: NDArray[np.float64],
        extent_mm: NDArray[np.float64],
    ) -> Box:
        """Return what the fine network looks at around a place.

        Args:
            spacing_mm: voxel size of the canonical image.
            center_ijk: the middle of the place, in its voxels.
            extent_mm: how large the place is along I, J and K.
        """
        config = self.config.segment
        extent_mm = np.minimum(extent_mm, LARGEST_MM)
        wanted = np.ceil((extent_mm + 2 * config.margin_mm) / np.array(config.spacing_mm))
        i, j, k = (max(int(a), b) for a, b in zip(wanted, config.patch, strict=True))
        # On a voxel: where the spacing is the wished one nothing is interpolated.
        return Box.around(np.rint(center_ijk), spacing_mm, config.spacing_mm, (i, j, k))

    def _segment(
        self,
        image: Tensor,
        spacing_mm: NDArray[np.float64],
        center_ijk: NDArray[np.float64],
        extent_mm: NDArray[np.float64],
    ) -> tuple[Slices, NDArray[np.float32]]:
        """Return the voxels of a region, and how likely they are tumor."""
        box = self.region(spacing_mm, center_ijk, extent_mm)
        patch = self.config.segment.patch
        prob = segment_prob(self.network.segment, box.take(image), patch, self.config.mirror)
        slices, values = box.put_back(prob, image.shape[1:])  # type: ignore[arg-type]
        said = values[0].numpy()
        seen = image[(slice(None), *slices)].cpu().numpy()
        return slices, with_edges(said, seen, spacing_mm, self.config)


def locate_prob(
    network: nn.Module, coarse: Tensor, patch: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Return the coarse probability ``(I, J, K)`` of a ``(2, I, J, K)`` coarse image."""
    prob: NDArray[np.float32] = torch.sigmoid(_logits(network, coarse, patch, 0.25))[0].numpy()
    return prob


def segment_prob(
    network: nn.Module, region: Tensor, patch: tuple[int, int, int], mirror: bool
) -> Tensor:
    """Return the fine probability ``(1, I, J, K)`` of a ``(2, I, J, K)`` region, on the CPU."""
    logits = _logits(network, region, patch, 0.5)
    if mirror:
        logits = (logits + _logits(network, region.flip(1), patch, 0.5).flip(1)) / 2
    return torch.sigmoid(logits)


def with_edges(
    said: NDArray[np.float32],
    image: NDArray[np.float32],
    spacing_mm: NDArray[np.float64],
    config: TwoStageConfig,
) -> NDArray[np.float32]:
    """Return what the network said, made to change where the image does, if the recipe says so.

    Args:
        said: probability ``(i, j, k)``, 0 to 1; may be empty.
        image: T1ce and T2 there ``(2, i, j, k)``, normalized.
        spacing_mm: voxel size.
        config: the recipe.
    """
    if config.edges is None:
        return said
    logits = logit(np.clip(said, LEAST, 1 - LEAST))
    prob: NDArray[np.float32] = expit(follow_edges(logits, image, spacing_mm, config.edges))
    return prob


def with_border(
    component: NDArray[np.bool_],
    prob: NDArray[np.float32],
    image: NDArray[np.float32],
    spacing_mm: NDArray[np.float64],
    config: TwoStageConfig,
) -> NDArray[np.bool_]:
    """Return the component laid where a border costs least, if the recipe says so.

    Args:
        component: what was found ``(i, j, k)``; may be empty.
        prob: of tumor there, as ``with_edges`` returns it: borders around what wavers would be
            those of its waverings.
        image: T1ce and T2 there ``(2, i, j, k)``, normalized.
        spacing_mm: voxel size.
        config: the recipe.
    """
    if config.border is None:
        return component
    return cheapest_border(component, prob, image, spacing_mm, config.border)


def _logits(
    network: nn.Module, image: Tensor, patch: tuple[int, int, int], overlap: float
) -> Tensor:
    """Return the logits ``(1, I, J, K)`` of an image, from windows of a fixed size."""

    def answer(windows: Tensor) -> Tensor:
        with answering(windows.device):
            return torch.as_tensor(network(windows)).float()

    logits = sliding_window_inference(
        image[None], patch, 1, answer, overlap=overlap, mode="gaussian", padding_mode="replicate"
    )
    return torch.as_tensor(logits)[0].cpu()


def surest_component(prob: NDArray[np.float32]) -> tuple[NDArray[np.bool_], float]:
    """Return the connected part above 0.5 that holds most sure voxels, and how much they weigh."""
    parts, count = ndimage.label(prob > 0.5, np.ones((3, 3, 3)))
    if count == 0:
        return np.zeros(prob.shape, dtype=bool), 0.0
    weights = ndimage.sum(prob.astype(np.float64) ** SURENESS, parts, range(1, count + 1))
    best = int(np.argmax(weights))
    return np.asarray(parts == 1 + best), float(weights[best])
