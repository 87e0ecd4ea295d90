"""What the speed benchmark compares with, behind the same server and request handling as the app.

``echo`` returns an outline that it keeps: what remains is server, request, writer and connection,
the floor of any answer of that size. ``whole_volume`` passes the whole volume through a network of
the size of MONAI Label's DeepEdit at each click. Its weights are random: only its time counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from monai.transforms import Resize
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from numpy.typing import NDArray

import clickseg_app.app  # its app class must not be a name of this module, see below
from clickseg.baselines.deep_edit import LABELS, SEQUENCES, Points, guided, points_by_label
from clickseg.clicks import Clicks, voxels_of
from clickseg.engine import Engine, Segmentation
from clickseg.networks import build_network
from clickseg.study import Study
from clickseg_app.infer import SegmentationTask
from clickseg_app.requests import Folders, Request, Source, clicks_of


class EchoTask(SegmentationTask):
    """Answer with the initial outline, which is kept."""

    name = "echo"
    kind = InferType.DEEPGROW
    text = "Returns the initial outline of the study, whatever is asked"

    def __init__(self, engine: Callable[[], Engine], folders: Folders) -> None:
        super().__init__(engine, folders)
        self._kept: dict[str, NDArray[np.uint8]] = {}

    def segment(self, study: Study, _source: Source, _request: Request) -> Segmentation:
        """Return the kept outline, in the memory order that is written fastest."""
        if study.case_id not in self._kept:
            self._kept[study.case_id] = np.asfortranarray(self.engine().initial(study).label)
        return _answer(self._kept[study.case_id], ())


class WholeVolumeTask(SegmentationTask):
    """Pass the whole volume and all clicks through one network, as DeepEdit does.

    Arguments of the network, size of its input and order of the steps are those of the DeepEdit
    sample app of MONAI Label 0.8.5, with two sequences and one label and its background. Unlike
    there the study is read once, not at each click, which is in favor of this task.
    """

    name = "whole_volume"
    kind = InferType.DEEPGROW
    text = "Passes the whole volume through a network at each click; its weights are random"

    def __init__(
        self, engine: Callable[[], Engine], folders: Folders, size: tuple[int, int, int]
    ) -> None:
        super().__init__(engine, folders)
        self.size = size
        torch.manual_seed(0)
        arguments = {
            "spatial_dims": 3,
            "in_channels": SEQUENCES + len(LABELS),
            "out_channels": len(LABELS),
            "kernel_size": [3, 3, 3, 3, 3, 3],
            "strides": [1, 2, 2, 2, 2, [2, 2, 1]],
            "upsample_kernel_size": [2, 2, 2, 2, [2, 2, 1]],
            "norm_name": "instance",
            "deep_supervision": False,
            "res_block": True,
        }
        self.network = build_network("dynunet", arguments).eval()  # as quick as ours
        self.shrink = Resize(size, mode="area")

    @torch.inference_mode()
    def segment(self, study: Study, _source: Source, request: Request) -> Segmentation:
        """Return what the network says of the whole volume."""
        clicks = clicks_of(request, study.grid)
        image = torch.as_tensor(self.shrink(torch.from_numpy(study.image)))
        logits = self.network(guided(image, self._points(clicks, study))[None])[0]
        label = logits.softmax(0).argmax(0, keepdim=True)
        restored = Resize(study.grid.canonical.shape, mode="nearest")(label.float())
        mask = restored.numpy()[0].astype(np.uint8)
        return _answer(study.grid.to_stored(mask), clicks)

    def _points(self, clicks: Clicks, study: Study) -> Points:
        """Return the voxels of the shrunk image that were clicked, as the guidance wants them."""
        grid = study.grid.canonical
        voxels, is_foreground = voxels_of(clicks, grid)
        inside = (voxels + 0.5) * np.array(self.size) / np.array(grid.shape) - 0.5
        return points_by_label(inside, is_foreground.tolist())


class MONAILabelApp(clickseg_app.app.ClickSegApp):
    """The app itself, under the name by which MONAI Label knows the base class of an app."""


class BenchApp(MONAILabelApp):
    """The app with the tasks that it is compared with, in place of its own."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        # side of the input of the whole-volume network; the app itself knows no such setting
        side = int(conf.get("spatial_size", "128"))
        self.size = (side, side, side)
        known = {key: value for key, value in conf.items() if key != "spatial_size"}
        super().__init__(app_dir, studies, known)

    def init_infers(self) -> dict[str, InferTask]:
        """Return the tasks by name."""
        echo = EchoTask(self.engine, self.folders)
        whole_volume = WholeVolumeTask(self.engine, self.folders, self.size)
        return {task.name: task for task in (echo, whole_volume)}


def _answer(label: NDArray[np.uint8], clicks: Clicks) -> Segmentation:
    return Segmentation(label, {"clicks": len(clicks), "latencies": {}})
