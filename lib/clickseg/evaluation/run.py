"""All studies and methods: in parallel, one file a study, so that a run that stopped goes on."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clickseg import __version__
from clickseg.atomic import write_text
from clickseg.baselines.method import Method
from clickseg.cache import Fingerprints
from clickseg.evaluation.methods import build_method
from clickseg.evaluation.reading import read
from clickseg.initial import Initial
from clickseg.models import load_initial
from clickseg.precision import one_thread
from clickseg.reader import Robot
from clickseg.study import Case, Study, placing_of, read_case_label, read_study
from clickseg.volume import ImageError, Volume, write_volume

Sequences = Literal["both", "t1ce", "t2"]
Mask = NDArray[np.uint8]

OWN, NOTHING = "own", "nothing"
"""Starts that are no folder: the method's own initial mask, and an empty one."""


@dataclass(frozen=True)
class Plan:
    """What all studies of a run have in common.

    ``start`` is ``own``, ``nothing``, or a folder whose initial model makes the start masks.
    """

    clicks: int
    robot: Robot
    seed: int
    start: str
    sequences: Sequences


@dataclass(frozen=True)
class Job:
    """One study for one method."""

    case: Case
    name: str
    folder: Path
    plan: Plan
    out: Path

    @property
    def path(self) -> Path:
        """Return where its result goes."""
        return self.out / "studies" / self.name / f"{self.case.case_id}.json"


def run_jobs(jobs: Sequence[Job], processes: int) -> list[dict[str, Any]]:
    """Do what is not done yet, and return the results of all jobs in their order."""
    if processes == 1:
        return [do(job) for job in tqdm(jobs, desc="evaluating", unit="study")]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(do, job): number for number, job in enumerate(jobs)}
        done = tqdm(as_completed(futures), desc="evaluating", unit="study", total=len(jobs))
        try:
            results = {futures[future]: future.result() for future in done}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # told now, not after all the others
            raise
    return [results[number] for number in range(len(jobs))]


def do(job: Job) -> dict[str, Any]:
    """Evaluate one study; an earlier result of the same plan and weights is taken as it is.

    Raises:
        ImageError: if the study cannot be read or has no label.
    """
    method = method_of(job.name, job.folder)
    settings = asdict(job.plan) | {
        "method_version": method.version,
        "start_version": _start_version(job.plan.start),
        "clickseg": __version__,
        "files": fingerprints(job.case),
    }
    kept = _kept(job.path)
    if kept is not None and kept["settings"] == settings:
        return kept
    study = read_study(job.case.t1ce, job.case.t2)
    label = read_case_label(job.case, study.grid)
    study = leave_out(study, job.plan.sequences)
    with one_thread():
        start = start_mask(study, job.plan.start)
        reading, first, last = read(
            method, study, label, start, job.plan.clicks, job.plan.robot, job.plan.seed
        )
    masks = job.out / "masks" / job.name
    for mask, when in ((first, "start"), (last, "last")):
        path = masks / f"{job.case.case_id}-{when}.nii.gz"
        write_volume(path, Volume(study.grid.to_stored(mask), study.grid))
    result = {
        "study": job.case.case_id,
        "method": job.name,
        "label_ml": float(np.count_nonzero(label)) * study.grid.canonical.voxel_ml,
        "settings": settings,
        **reading.as_dict(),
    }
    write_text(job.path, json.dumps(result, indent=1))
    return result


def fingerprints(case: Case) -> list[str | None]:
    """Name the files of a case by their content: T1ce, T2 and label, None where there is none.

    Where the header of the T2 is not trusted, how it is placed is a fourth name.
    """
    files = (case.t1ce, case.t2, case.label)
    contents = [None if path is None else _FINGERPRINT(path) for path in files]
    placing = placing_of(case.t1ce)
    return [*contents, placing.key] if placing.key else contents


def _kept(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def leave_out(study: Study, sequences: Sequences) -> Study:
    """Return the study as if one sequence was not there.

    Raises:
        ImageError: if the one that is asked for is not there.
    """
    if sequences == "both":
        return study
    if sequences == "t2" and study.t2_path is None:
        raise ImageError(f"{study.case_id} was to be read by its T2 alone, but it has none")
    image = study.image.copy()
    image[1 if sequences == "t1ce" else 0] = 0
    return replace(study, image=image, t2_path=None if sequences == "t1ce" else study.t2_path)


def start_mask(study: Study, start: str) -> Mask | None:
    """Return the mask that all methods start from, or None where each has its own.

    Raises:
        ModelError: if a folder without an initial model was named.
    """
    if start == OWN:
        return None
    if start == NOTHING:
        nothing = np.zeros(study.grid.canonical.shape, dtype=np.uint8)
        nothing.flags.writeable = False
        return nothing
    initial, _ = initial_of(start)
    mask: Mask = initial(study).mask
    mask.flags.writeable = False  # so that the engine hashes it once
    return mask


def initial_of(folder: str) -> tuple[Callable[[Study], Initial], str]:
    """Return the initial model of a folder and its hash, loaded once; raises ``ModelError``."""
    if folder not in _INITIALS:
        _INITIALS[folder] = load_initial(Path(folder))
    return _INITIALS[folder]


def _start_version(start: str) -> str:
    return "" if start in (OWN, NOTHING) else initial_of(start)[1]


_FINGERPRINT = Fingerprints()
_METHODS: dict[tuple[str, Path], Method] = {}
_INITIALS: dict[str, tuple[Callable[[Study], Initial], str]] = {}
"""What a process has loaded: many studies share it."""


def method_of(name: str, folder: Path) -> Method:
    """Return a method, made once in this process; raises as ``build_method``."""
    if (name, folder) not in _METHODS:
        _METHODS[name, folder] = build_method(name, folder)
    return _METHODS[name, folder]
