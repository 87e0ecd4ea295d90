"""All studies and methods: in parallel, one file a study, so that a run that stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from clickseg.atomic import write_text
from clickseg.baselines.method import Method
from clickseg.cache import Fingerprints
from clickseg.evaluation.methods import build_method, load_start
from clickseg.evaluation.reading import read
from clickseg.initial import Initial
from clickseg.modelfile import ModelError, code_version
from clickseg.parallel import in_processes
from clickseg.precision import has_bfloat16, one_thread
from clickseg.process import keep_freed_memory
from clickseg.reader import Robot
from clickseg.study import Case, Study, placing_of, read_case_label, read_mask, read_study
from clickseg.volume import ImageError, Volume, read_volume, write_volume

Sequences = Literal["both", "t1ce", "t2"]
Mask = NDArray[np.uint8]

OWN, NOTHING = "own", "nothing"
"""Starts that are no folder: the method's own initial mask, and an empty one."""


@dataclass(frozen=True)
class Plan:
    """What all studies of a run have in common.

    ``start`` is ``own``, ``nothing``, or a folder: of start masks as an evaluation writes them
    (``<id>-start.nii.gz``), or of an initial model that makes them.
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

    @property
    def mask_paths(self) -> tuple[Path, Path]:
        """Return where the masks before the first and after the last click go."""
        masks, name = self.out / "masks" / self.name, self.case.case_id
        return masks / f"{name}-start.nii.gz", masks / f"{name}-last.nii.gz"


def run_jobs(jobs: Sequence[Job], processes: int) -> list[dict[str, Any]]:
    """Do what is not done yet, and return the results of all jobs in their order.

    All that is asked about a study is done together, so that it is read once.
    """
    by_study: dict[Path, list[int]] = {}
    for number, job in enumerate(jobs):
        by_study.setdefault(job.case.t1ce, []).append(number)
    groups = list(by_study.values())
    work = [[jobs[number] for number in numbers] for numbers in groups]
    done = in_processes(do_all, work, processes, keep_freed_memory)
    results: dict[int, dict[str, Any]] = {}
    for group, found in tqdm(done, desc="evaluating", unit="study", total=len(groups)):
        results |= zip(groups[group], found, strict=True)
    return [results[number] for number in range(len(jobs))]


def do_all(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Do some jobs, one after the other; see ``do``."""
    return [do(job) for job in jobs]


def do(job: Job) -> dict[str, Any]:
    """Evaluate one study; an earlier result of the same plan, weights and code is taken as it is.

    One whose masks are gone is made again.

    Raises:
        ImageError: if the study cannot be read or has no label.
    """
    method = method_of(job.name, job.folder)
    settings = asdict(job.plan) | {
        "method_version": method.version,
        "start_version": start_version(job.plan.start, job.case),
        "code": code_version(),
        "bfloat16": has_bfloat16("cpu"),
        "files": fingerprints(job.case),
    }
    kept = kept_in(job.path)
    if kept.get("settings") == settings and all(path.is_file() for path in job.mask_paths):
        return kept
    with one_thread():
        study, label, start = _opened(job.case, job.plan, str(settings["files"]))
        reading, first, last = read(
            method, study, label, start, job.plan.clicks, job.plan.robot, job.plan.seed
        )
    for mask, path in zip((first, last), job.mask_paths, strict=True):
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


def kept_in(path: Path) -> dict[str, Any]:
    """Return what a run kept in a file; nothing where it is missing or damaged: it is made anew."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


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


def _opened(case: Case, plan: Plan, files: str) -> tuple[Study, Mask, Mask | None]:
    """Return a study as a plan wants it, its label and start mask; the last one is kept."""
    key = (case.case_id, files, plan.sequences, plan.start, start_version(plan.start, case))
    if key not in _OPENED:
        _OPENED.clear()  # before another takes as much room
        study = read_study(case.t1ce, case.t2)
        label = read_case_label(case, study.grid)
        study = leave_out(study, plan.sequences)
        start = start_mask(study, plan.start)
        _OPENED[key] = study, label, start
    return _OPENED[key]


def start_mask(study: Study, start: str) -> Mask | None:
    """Return the mask that all methods start from, or None where each has its own.

    Raises:
        ImageError: if a folder of start masks lacks this study's, or has it on another grid.
        ModelError: if a folder has neither start masks nor an initial model.
    """
    if start == OWN:
        return None
    if start == NOTHING:
        mask = np.zeros(study.grid.canonical.shape, dtype=np.uint8)
    elif holds_masks(start):
        mask = read_mask(_mask_path(start, study.case_id), study.grid)
    else:
        initial, _ = initial_of(start)
        mask = initial(study).mask
    mask.flags.writeable = False  # so that the engine hashes it once
    return mask


def holds_masks(start: str) -> bool:
    """Tell whether a start is a folder of start masks, as an evaluation writes them."""
    return start not in (OWN, NOTHING) and any(Path(start).glob("*-start.nii.gz"))


def check_start(start: str, cases: Sequence[Case]) -> None:
    """Find out before any work whether a start is there for all cases.

    Raises:
        ModelError: if a folder holds neither start masks nor an initial model.
        ImageError: if it holds start masks, but not of all cases.
    """
    if start in (OWN, NOTHING):
        return
    if holds_masks(start):
        missing = [c.case_id for c in cases if not _mask_path(start, c.case_id).is_file()]
        if missing:
            raise ImageError(f"{start} holds start masks, but none of {', '.join(missing)}")
        return
    try:
        initial_of(start)
    except ModelError as error:
        raise ModelError(
            f"--start wants a folder of start masks (ID-start.nii.gz) or of an initial model; "
            f"{start} holds no such mask, and: {error}"
        ) from error


def check_labels(cases: Sequence[Case]) -> None:
    """Find out before any work whether the label of each case lies on its image.

    Raises:
        ImageError: with all cases where it does not, or where one of both cannot be read.
    """
    faults = []
    for case in cases:
        try:
            read_case_label(case, read_volume(case.t1ce).grid)
        except ImageError as error:
            faults.append(f"{case.case_id} ({error})")
    if faults:
        raise ImageError(f"{len(faults)} studies cannot be used: {'; '.join(faults)}")


def _mask_path(start: str, case_id: str) -> Path:
    return Path(start) / f"{case_id}-start.nii.gz"


def initial_of(folder: str) -> tuple[Callable[[Study], Initial], str]:
    """Return the initial model of a folder and its version, loaded once; raises ``ModelError``."""
    if folder not in _INITIALS:
        _INITIALS[folder] = load_start(Path(folder))
    return _INITIALS[folder]


def start_version(start: str, case: Case) -> str:
    """Name what a start mask depends on: its file's content, the initial model, or nothing."""
    if start in (OWN, NOTHING):
        return ""
    if holds_masks(start):
        return _FINGERPRINT(_mask_path(start, case.case_id))
    return initial_of(start)[1]


_FINGERPRINT = Fingerprints()
_METHODS: dict[tuple[str, Path], Method] = {}
_INITIALS: dict[str, tuple[Callable[[Study], Initial], str]] = {}
"""What a process has loaded: many studies share it."""

_OPENED: dict[tuple[str, ...], tuple[Study, Mask, Mask | None]] = {}
"""The study that was looked at last: several methods are asked about it in turn."""


def method_of(name: str, folder: Path) -> Method:
    """Return a method, made once in this process; raises as ``build_method``."""
    if (name, folder) not in _METHODS:
        _METHODS[name, folder] = build_method(name, folder)
    return _METHODS[name, folder]
