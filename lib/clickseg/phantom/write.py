"""Write phantom studies to a folder, laid out as the app reads it."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from clickseg.atomic import replacing
from clickseg.phantom.contours import Outlines
from clickseg.phantom.fields import generator
from clickseg.phantom.make import T2_KINDS, make_phantom
from clickseg.phantom.scanner import MIXED
from clickseg.volume import EXTENSIONS, find_image, write_volume

T2_FOLDER = "t2"

ENDING = ".nii.gz"

__all__ = ["T2_FOLDER", "T2_KINDS", "Order", "write_phantom"]


@dataclass(frozen=True)
class Order:
    """One study that is to be written, and where."""

    out: Path
    labels: Path | None
    """Folder for the outline; None writes none."""
    seed: int
    index: int
    outlines: Outlines | None = None
    grid: str = MIXED
    t2_kind: str | None = None
    without_t2: float = 0.0
    """Share of studies that get no T2."""
    tumor_free: float = 0.0
    """Share of studies that get no tumor."""

    @property
    def case_id(self) -> str:
        """The id of the study."""
        return self.outlines.case_id if self.outlines else f"phantom-{self.index:04d}"

    @property
    def has_t2(self) -> bool:
        """Whether this study gets a T2: drawn from the seed, so that it stays the same."""
        return self._draw("t2") >= self.without_t2

    @property
    def has_tumor(self) -> bool:
        """Whether this study gets a tumor, drawn likewise."""
        return self._draw("tumor-free") >= self.tumor_free

    def _draw(self, what: str) -> float:
        name = self.outlines.subject if self.outlines else self.index
        return float(generator(self.seed, name, what).random())

    def paths(self) -> tuple[Path, Path | None, Path | None]:
        """Return where T1ce, T2 and outline go; None where there is none."""
        name = f"{self.case_id}{ENDING}"
        t2 = self.out / T2_FOLDER / name if self.has_t2 else None
        return self.out / name, t2, self.labels / name if self.labels else None

    def is_complete(self) -> bool:
        """Tell whether all files are there, in whatever format: a label may be a reader's."""
        return all(
            path is None or find_image(path.parent, self.case_id) is not None
            for path in self.paths()
        )


def write_phantom(order: Order, make_room: Callable[[], None] = lambda: None) -> float:
    """Make and write one study; return the volume of its outline in ml.

    The T1ce comes last: a reader that sees it finds the other files too. A T2 of an earlier one
    goes. ``make_room`` is called when all is on the disk, and nothing at its place yet.
    """
    phantom = make_phantom(
        order.seed, order.index, order.grid, order.outlines, order.t2_kind, not order.has_tumor
    )
    t1ce, t2, label = order.paths()
    with ExitStack() as stack:  # what is begun first comes to its place last
        for path, volume in ((t1ce, phantom.t1ce), (label, phantom.label), (t2, phantom.t2)):
            if path is not None:
                write_volume(stack.enter_context(replacing(path, ENDING)), volume)
        make_room()
        for ending in EXTENSIONS:
            (order.out / T2_FOLDER / f"{order.case_id}{ending}").unlink(missing_ok=True)
    return phantom.volume_ml
