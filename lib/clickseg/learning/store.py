"""Where published models are: the base they come from, versions made since, and which one counts.

``<folder>/versions/<name>/<number>-<hash>/`` holds weights and manifest of one version,
``<folder>/current.json`` names the one that counts for each model. A model that it does not name
is the base's. A version is complete on the disk before it gets its name, and one small file is
moved to make it count: whoever reads at any moment finds a whole model.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from clickseg.atomic import PART, flush, write_text
from clickseg.modelfile import Manifest, ModelError, check_weights, read_manifest
from clickseg.models import WEIGHTS, Models, load_pair

logger = logging.getLogger(__name__)

NAMES = ("initial", "correction")

BASE = "base"
"""The version that every store begins with, and that can always be gone back to."""

KEPT = 5
"""How many versions of each model are kept; the one that counts is among them."""

WAIT_S = 0.5
"""For the right to train: whoever asks whether somebody trains holds it for a moment."""

_PUBLISHED = "published-"

_VERSION = re.compile(r"\d{4,}-[0-9a-f]{12}")


class StoreBusyError(RuntimeError):
    """Another process is training the same model of the same store."""


@dataclass(frozen=True)
class Version:
    """A version of a model."""

    name: str
    version: str
    folder: Path
    is_current: bool

    @property
    def number(self) -> int:
        """The place in the order of publication; 0 for the base. None is given twice."""
        return 0 if self.version == BASE else int(self.version.split("-")[0])

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            ModelError: if it is missing or no manifest.
        """
        return read_manifest(self.folder, self.name)


class ModelStore:
    """Published models of one server.

    Args:
        folder: where versions go; it is made when the first is published.
        base: folder of the two models that all begins with.
    """

    def __init__(self, folder: Path, base: Path = WEIGHTS) -> None:
        self.folder = folder
        self.base = base

    def current(self) -> dict[str, str]:
        """Return the version that counts of each model.

        Raises:
            ModelError: if the file that says so is damaged.
        """
        path = self.folder / "current.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            values = {}
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} does not say which models count: {error}") from error
        if not isinstance(values, dict) or not all(
            name in NAMES and isinstance(version, str) for name, version in values.items()
        ):
            raise ModelError(f"{path} must name a version of {' and '.join(NAMES)}, it is {values}")
        return {name: values.get(name, BASE) for name in NAMES}

    def version(self, name: str, version: str | None = None) -> Version:
        """Return a version of a model, the current one if none is named.

        Raises:
            ModelError: if there is no such model or version.
        """
        _check_name(name)
        wanted = self.current()[name] if version is None else version
        for one in self.versions(name):
            if one.version == wanted:
                return one
        there = ", ".join(one.version for one in self.versions(name))
        raise ModelError(f"there is no version {wanted!r:.80} of {name}; there are: {there}")

    def versions(self, name: str) -> list[Version]:
        """Return all versions of a model, the base first, then in the order of publication."""
        _check_name(name)
        counts = self._current_or_base()[name]
        folder = self.folder / "versions" / name
        found = [Version(name, BASE, self.base, counts == BASE)]
        for path in folder.iterdir() if folder.is_dir() else ():
            if _VERSION.fullmatch(path.name) and path.is_dir():
                found.append(Version(name, path.name, path, path.name == counts))
        return sorted(found, key=lambda one: one.number)

    def load(self, device: str = "cpu") -> Models:
        """Load the models that count.

        Raises:
            ModelError: if one is missing, damaged, or not of the recipe that its manifest states,
                or the store belongs to another base.
        """
        self.check_base()
        first, second = (self.version(name).folder for name in NAMES)
        return load_pair(first, second, device)

    def state(self) -> tuple[int, int] | None:
        """Return what changes whenever another model counts; asking costs one look at a file."""
        try:
            status = (self.folder / "current.json").stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def publish(self, name: str, made: Path) -> Version:
        """Copy a model from a folder into the store and make it the one that counts.

        Raises:
            ModelError: if weights and manifest in the folder do not belong together.
        """
        manifest = read_manifest(made, name)
        check_weights(made, manifest)
        folder = self.folder / "versions" / name
        folder.mkdir(parents=True, exist_ok=True)
        with self._writing():
            self.check_base()
            write_text(self._base_file, json.dumps(self._base_hashes()) + "\n")
            for left in folder.glob(f"{PART}*"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            number = 1 + max(one.number for one in self.versions(name))
            place = folder / f"{number:04d}-{manifest.short_hash}"
            part = Path(tempfile.mkdtemp(prefix=PART, dir=folder))
            try:
                for ending in (".pt", ".json"):
                    shutil.copyfile(made / f"{name}{ending}", part / f"{name}{ending}")
                    flush(part / f"{name}{ending}")
                part.chmod(0o755)
                _flush_names(part)
                part.rename(place)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            _flush_names(folder)
            try:
                self._set({**self.current(), name: place.name})
            except BaseException:
                with suppress(ModelError):  # nobody knows whether it counts: it stays
                    if self.current()[name] != place.name:
                        shutil.rmtree(place, ignore_errors=True)
                raise
            self._prune(name)
        return self.version(name, place.name)

    def is_unfinished(self, version: Version) -> bool:
        """Tell whether a process was killed just before it made a version count.

        Whoever goes back to an earlier version writes down which one counts after that one was
        made, so its files are older than that.
        """
        if version.is_current or version.version == BASE:
            return False
        state = self.state()
        return state is None or version.folder.stat().st_mtime_ns > state[0]

    def rollback(self, name: str, version: str | None = None) -> Version:
        """Make another version count: the one named, or the one published before the current.

        Raises:
            ModelError: if there is no such version, or none before the current one.
        """
        with self._writing():
            self.check_base()
            if version is None:
                current = self.version(name)
                earlier = [one for one in self.versions(name) if one.number < current.number]
                if not earlier:
                    raise ModelError(f"the base of {name} counts already; nothing came before it")
                version = earlier[-1].version
            chosen = self.version(name, version)
            check_weights(chosen.folder, chosen.manifest())
            self._set({**self._current_or_base(), name: chosen.version})
        return self.version(name)

    @contextmanager
    def training(self, name: str) -> Iterator[None]:
        """Hold the right to train a model: one process at a time.

        Raises:
            StoreBusyError: if another process holds it.
        """
        _check_name(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.check_base()
        lock = self._training_lock(name)
        try:
            lock.acquire(timeout=WAIT_S)
        except Timeout as error:
            raise StoreBusyError(f"{name} is being trained by another process already") from error
        try:
            yield
        finally:
            lock.release()

    def is_training(self, name: str) -> bool:
        """Tell whether a process is training a model now."""
        if not self.folder.is_dir():
            return False
        try:
            with self._training_lock(name).acquire(timeout=0):
                return False
        except Timeout:
            return True

    def _training_lock(self, name: str) -> FileLock:
        return FileLock(self.folder / f".training-{name}.lock")

    @property
    def _base_file(self) -> Path:
        return self.folder / "base.json"

    def _base_hashes(self) -> list[str]:
        return [read_manifest(self.base, name).sha256 for name in NAMES]

    def check_base(self) -> None:
        """Refuse a base whose versions these are not.

        Raises:
            ModelError: if it is another than the versions came from.
        """
        if self._base_file.is_file():
            try:
                told = json.loads(self._base_file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ModelError(f"{self._base_file} does not name a base: {error}") from error
            is_mine = told == self._base_hashes()
        else:  # nothing is published yet
            is_of_one = self.folder.name.startswith(_PUBLISHED)
            is_mine = not is_of_one or self.folder == published_in(self.folder.parent, self.base)
        if not is_mine:
            raise ModelError(f"{self.folder} has versions of another base than {self.base}")

    def _current_or_base(self) -> dict[str, str]:
        """Return what counts, the base where the file that says so is damaged: the way back."""
        try:
            return self.current()
        except ModelError as error:
            logger.warning("%s", error)
            return dict.fromkeys(NAMES, BASE)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".writing.lock", timeout=60):
            yield

    def _set(self, versions: Mapping[str, str]) -> None:
        write_text(self.folder / "current.json", json.dumps(dict(versions), indent=1) + "\n")
        try:
            _flush_names(self.folder)
        except OSError as error:  # it counts already, unless the power fails just now
            logger.warning("the names in %s may not be on the disk yet: %s", self.folder, error)

    def _prune(self, name: str) -> None:
        made = [one for one in self.versions(name) if one.version != BASE]
        for one in made[:-KEPT]:  # the newest stays, so that its number is not given again
            if one.is_current:
                continue
            try:  # under a name that is swept, should it not go whole
                shutil.rmtree(one.folder.rename(one.folder.with_name(f"{PART}{one.version}")))
            except OSError as error:  # it takes room, no more
                logger.warning("version %s of %s stays: %s", one.version, name, error)
            else:
                logger.info("version %s of %s is removed: %d are kept", one.version, name, KEPT)


def published_in(folder: Path, base: Path) -> Path:
    """Return where the versions are that came from a base: each base has a store of its own.

    Versions of another base would answer in its place, and it was asked for.
    """
    hashes = []
    for name in NAMES:
        try:
            hashes.append(read_manifest(base, name).short_hash[:6])
        except ModelError:  # told when the models are loaded
            hashes.append("none")
    return folder / f"{_PUBLISHED}{'-'.join(hashes)}"


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise ModelError(f"a model is one of {', '.join(NAMES)}; got {name!r:.80}")


def _flush_names(folder: Path) -> None:
    """Wait until a folder's list of names is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
