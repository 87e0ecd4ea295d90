"""What the app promises, checked over HTTP on real studies with real models.

    python tests/app/acceptance.py --studies DIR --labels DIR [--models DIR] [--clicks 5]

starts a server on a copy of the studies without their labels, segments each, lets the simulated
reader click, and prints Dice after each click and what was broken, if anything.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from serving import Server

from clickseg.clicks import Click
from clickseg.metrics import dice
from clickseg.reader import next_click
from clickseg.study import find_cases
from clickseg.volume import read_label


def check_study(server, name, label, clicks):
    """Click ``clicks`` times; return the Dice after each, and every promise that was broken.

    The reader sees what the viewer shows. A click may change nothing farther than the radius that
    its answer states, each clicked voxel must be obeyed, and undo must give the earlier answer.
    """
    grid, truth = label.grid, label.array
    answer = server.slicer("initial", name, {"start": "initial"})
    masks, curve, broken = [answer.mask], [dice(answer.mask, truth)], []
    points = {True: [], False: []}
    requests = [points_of(points)]
    ijk = np.indices(truth.shape).reshape(3, -1).T
    for _ in range(clicks):
        clicked = points[True] + points[False]
        found = next_click(truth, masks[-1], grid.spacing_mm, clicked)
        if found is not None:
            voxel, is_foreground = found
            points[is_foreground].append(list(voxel))
            requests.append(points_of(points))
            answer = server.slicer("click", name, requests[-1])
            masks.append(answer.mask)
            far_mm = distance_mm(Click.at(voxel, is_foreground, grid), grid, ijk)
            changed = (masks[-1] != masks[-2]).reshape(-1)
            outside = int(np.count_nonzero(changed & (far_mm > answer.params["radius_mm"])))
            if outside:
                broken.append(f"{name}: {outside} voxels changed beyond the radius")
            for kind, places in points.items():
                broken += [f"{name}: {p} not obeyed" for p in places if masks[-1][tuple(p)] != kind]
        curve.append(dice(masks[-1], truth))
    for request, mask in zip(requests[::-1], masks[::-1], strict=True):
        if not np.array_equal(server.slicer("click", name, request).mask, mask):
            broken.append(f"{name}: undo to {request} gave another mask")
    return curve, broken


def points_of(points):
    return {"foreground": list(points[True]), "background": list(points[False]), "start": "initial"}


def distance_mm(click, grid, ijk):
    points_ras = ijk @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return np.linalg.norm(points_ras - click.point_ras, axis=1)


def without_labels(studies, folder):
    """Copy studies, but not their labels, so that a server may write beside them."""
    shutil.copytree(studies, folder, ignore=shutil.ignore_patterns("labels", "*.json", ".lock"))
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--clicks", type=int, default=5)
    options = parser.parse_args()
    unlabeled = [c.case_id for c in find_cases(options.studies, options.labels) if c.label is None]
    if unlabeled:
        parser.error(f"--labels must hold a reference of each study, lacks {', '.join(unlabeled)}")
    curves, broken = [], []
    with tempfile.TemporaryDirectory() as name:
        studies = without_labels(options.studies, Path(name) / "studies")
        conf = [("pretrained_path", options.models.resolve())] if options.models else []
        server = Server(Path(name), studies, *conf).wait()
        try:
            for case in find_cases(studies, options.labels):
                label = read_label(case.label)
                curve, faults = check_study(server, case.case_id, label, options.clicks)
                curves.append(curve)
                broken += faults
                ml = label.array.sum() * label.grid.voxel_ml
                row = " ".join(f"{value:.3f}" for value in curve)
                sys.stdout.write(f"{case.case_id} {ml:6.2f} ml  {row}\n")
                sys.stdout.flush()
        finally:
            server.stop()
    row = " ".join(f"{value:.4f}" for value in np.mean(curves, axis=0))
    harm = np.mean(np.diff(curves, axis=1) < -0.005)
    sys.stdout.write(f"mean Dice after 0 to {options.clicks} clicks: {row}; harm rate {harm:.3f}\n")
    sys.stdout.write("\n".join(broken) + "\n" if broken else "no promise was broken\n")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
