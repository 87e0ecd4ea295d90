"""DICOMweb: which studies and series a PACS has, their instances, and new ones into it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

CONNECT_S, READ_S = 5.0, 60.0
"""How long a PACS may take to answer at all, and between two pieces of an answer."""

PAGE = 200
"""Results that are asked for at once."""

LEAST_PAGE = 10
"""A PACS may give fewer at once than asked for, but not as few as this: fewer are all.

So one request tells that a small PACS has nothing new.
"""

_COUNTED = ["NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"]
_OF_SERIES = ["SeriesDescription", "NumberOfSeriesRelatedInstances"]
_UID = re.compile(r"[0-9.]{1,64}")
_NO_DICOM = (ValueError, KeyError, TypeError, AttributeError, EOFError, InvalidDicomError)


class PacsError(RuntimeError):
    """A PACS did not do what was asked; the text says what, and how it answered."""


class UnreachableError(PacsError):
    """A PACS does not answer at all."""


@dataclass(frozen=True)
class RemoteStudy:
    """A study in a PACS. ``counts``: of its series and its instances, None where not told."""

    uid: str
    patient_id: str
    date: str
    time: str
    counts: tuple[int | None, int | None]


@dataclass(frozen=True)
class RemoteSeries:
    """A series in a PACS; ``instances`` is None where the PACS does not count them.

    ``digest`` is of the instances' UIDs where they were listed to count them, else empty.
    """

    study_uid: str
    uid: str
    modality: str
    description: str
    instances: int | None
    digest: str = ""


def is_uid(text: str) -> bool:
    """Tell whether a text can be a DICOM UID."""
    return bool(_UID.fullmatch(text))


class Pacs:
    """A DICOMweb server.

    Args:
        url: its root, below which are ``/studies`` and so on.
        login: user name and password, None without.
        prefixes: of QIDO, WADO and STOW below the root, each None where there is none.
    """

    def __init__(
        self,
        url: str,
        login: tuple[str, str] | None = None,
        prefixes: tuple[str | None, str | None, str | None] = (None, None, None),
    ) -> None:
        self.url = url.rstrip("/")
        session = requests.Session()
        session.auth = login
        # Orthanc closes a connection that was idle for a second, maybe while it is used again.
        session.headers["Connection"] = "close"
        for scheme in ("http://", "https://"):
            # Asking again is no harm; what is to be stored is sent again only if nothing arrived.
            again = Retry(2, status=0, backoff_factor=0.3)
            session.mount(scheme, _Impatient(max_retries=again))
        qido, wado, stow = (prefix or None for prefix in prefixes)
        self._client = DICOMwebClient(self.url, session, qido, wado, stow)
        self._client.set_http_retry_params(retry=False)

    def studies(self, **matching: str) -> list[RemoteStudy]:
        """List the studies; ``matching`` are QIDO filters by keyword.

        Raises:
            PacsError: if the PACS does not answer.
        """
        found = self._all(self._client.search_for_studies, matching, _COUNTED, "StudyInstanceUID")
        return [
            RemoteStudy(
                _text(one, "StudyInstanceUID"),
                _text(one, "PatientID"),
                _text(one, "StudyDate"),
                _text(one, "StudyTime"),
                (_count(one, _COUNTED[0]), _count(one, _COUNTED[1])),
            )
            for one in found
        ]

    def series(self, study_uid: str | None = None, **matching: str) -> list[RemoteSeries]:
        """List the series of one study, or of all.

        Raises:
            PacsError: if the PACS does not answer.
        """

        def search(**options: Any) -> list[dict[str, Any]]:
            return self._client.search_for_series(study_uid, **options)

        return [
            RemoteSeries(
                _text(one, "StudyInstanceUID") or study_uid or "",
                _text(one, "SeriesInstanceUID"),
                _text(one, "Modality"),
                _text(one, "SeriesDescription"),
                _count(one, _OF_SERIES[1]),
            )
            for one in self._all(search, matching, _OF_SERIES, "SeriesInstanceUID")
        ]

    def instances(self, study_uid: str, series_uid: str) -> list[str]:
        """List the instances of a series by UID.

        Raises:
            PacsError: if the PACS does not answer.
        """

        def search(**options: Any) -> list[dict[str, Any]]:
            return self._client.search_for_instances(study_uid, series_uid, **options)

        return [_text(one, "SOPInstanceUID") for one in self._all(search, {}, [], "SOPInstanceUID")]

    def header(self, study_uid: str, series_uid: str) -> Dataset:
        """Return what one instance of a series says, whichever, without its pixels.

        Raises:
            PacsError: if the PACS does not answer so, or the series is empty.
        """
        of = f"the header of an instance of series {series_uid}"
        with self._asked(of):
            some = self._client.search_for_instances(study_uid, series_uid, limit=1)
            if not some:
                raise PacsError(f"{of} was wanted from the PACS at {self.url}; there is none")
            uid = _text(_dataset(some[0]), "SOPInstanceUID")
            found = _dataset(self._client.retrieve_instance_metadata(study_uid, series_uid, uid))
        return self._checked([found], series_uid)[0]

    def headers(self, study_uid: str, series_uid: str) -> list[Dataset]:
        """Return what the instances of a series say, without their pixels.

        Raises:
            PacsError: if the PACS does not answer so, or the series is empty.
        """
        with self._asked(f"the headers of series {series_uid}"):
            values = self._client.retrieve_series_metadata(study_uid, series_uid)
            found = [_dataset(one) for one in values]
        return self._checked(found, series_uid)

    def fetch(self, study_uid: str, series_uid: str) -> list[Dataset]:
        """Return the instances of a series, pixels and all.

        Raises:
            PacsError: if the PACS does not answer so.
        """
        with self._asked(f"series {series_uid}"):
            found = self._client.retrieve_series(study_uid, series_uid)
        return self._checked(found, series_uid)

    def store(self, instances: Sequence[Dataset]) -> None:
        """Store instances.

        Raises:
            PacsError: if the PACS refuses one of them.
        """
        with self._asked(f"to store {len(instances)} instances"):
            answer = self._client.store_instances(instances)
        refused = answer.get("FailedSOPSequence") or []
        if refused:
            reason = refused[0].get("FailureReason", "none given")
            text = f"{len(refused)} of {len(instances)} instances were refused by {self.url}"
            raise PacsError(f"{text}; the reason is {reason}")

    def _checked(self, instances: list[Dataset], series_uid: str) -> list[Dataset]:
        """Refuse none at all, and those of another series: they may be of another patient."""
        wanted = f"series {series_uid} was wanted from the PACS at {self.url}"
        if not instances:
            raise PacsError(f"{wanted}; it has no instances")
        others = {_text(one, "SeriesInstanceUID") for one in instances} - {series_uid}
        if others:
            raise PacsError(f"{wanted}; it answered with {', '.join(sorted(others)) or 'none'}")
        return instances

    def _all(
        self,
        search: Callable[..., list[dict[str, Any]]],
        matching: Mapping[str, str],
        fields: Sequence[str],
        uid: str,
    ) -> list[Dataset]:
        """Ask for page after page, until one has nothing new: some servers know of no pages."""
        found: dict[str, Dataset] = {}
        with self._asked("a list"):
            while True:
                page = search(
                    limit=PAGE,
                    offset=len(found),
                    fields=list(fields) or None,
                    search_filters=dict(matching),
                )
                new = {_text(one, uid): one for one in map(_dataset, page)}
                if not new.keys() - found.keys():
                    return list(found.values())
                found |= new
                if len(page) < LEAST_PAGE:
                    return list(found.values())

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Turn what goes wrong within into one sentence."""
        try:
            yield
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else "no status"
            text = f"{what} was wanted from the PACS at {self.url}; it answered with {status}"
            raise PacsError(text) from error
        except requests.RequestException as error:
            if isinstance(error, requests.JSONDecodeError):
                raise self._misunderstood(what, error) from error
            text = f"the PACS at {self.url} does not answer ({type(error).__name__})"
            raise UnreachableError(text) from error
        except _NO_DICOM as error:
            raise self._misunderstood(what, error) from error

    def _misunderstood(self, what: str, error: Exception) -> PacsError:
        text = f"{what} was wanted from the PACS at {self.url}; its answer is no DICOM"
        return PacsError(f"{text} ({error})")


class _Impatient(HTTPAdapter):
    """Waits for no server forever; the client knows of no timeout."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        kwargs["timeout"] = (CONNECT_S, READ_S)
        return super().send(request, *args, **kwargs)


def _dataset(values: Mapping[str, Any]) -> Dataset:
    """Read DICOM JSON; what is kept elsewhere, as pixels are, is left out."""
    return Dataset.from_json(json.dumps(_without_bulk(values)))


def _without_bulk(values: Any) -> Any:
    if isinstance(values, Mapping):
        kept = {
            key: value
            for key, value in values.items()
            if not (isinstance(value, Mapping) and "BulkDataURI" in value)
        }
        return {key: _without_bulk(value) for key, value in kept.items()}
    return [_without_bulk(one) for one in values] if isinstance(values, list) else values


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value)


def _count(dataset: Dataset, keyword: str) -> int | None:
    value = dataset.get(keyword)
    return None if value in (None, "") else int(value)
