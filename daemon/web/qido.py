"""QIDO-RS (PS3.18 10.6): what is in the spool. Of patients the ledger knows nothing; files are asked, one a series."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from daemon.errors import RefusedError
from daemon.ledger.holdings import Holding, Holdings, Wanted
from daemon.web import record
from daemon.web.accept import DICOM_JSON, among
from daemon.web.console import Console
from daemon.web.guard import DICOMWEB, Here, Visitor
from daemon.web.matching import INSTANCE_KEYS, SERIES_KEYS, STUDY_KEYS, Query, fits, parse
from daemon.web.objects import document, header_of
from daemon.web.wado import SERIES, Asks, Uid, of_series

router = APIRouter(prefix=DICOMWEB)
# A search that is not by UID opens the files of so many studies, the newest.
_MOST_STUDIES = 1000
_PAGE = 50
_SEARCHES = CapacityLimiter(4)
# And so many files in all, some more than a study has unless `listener.max_study_instances` says otherwise.
MOST_FILES = 25_000
_SHAPE = ("Rows", "Columns", "BitsAllocated", "NumberOfFrames")
_LITERAL = '299 overread "The fuzzymatching parameter is not supported. Only literal matching has been performed."'
_MORE = '299 overread "There are additional results that can be requested, or older studies that were not looked at."'


@dataclass(frozen=True, kw_only=True)
class Search:
    """A query, where it was put to, study and series of the address; `cut` once older studies are left out."""

    console: Console
    query: Query
    base: str
    study: str = ""
    series: str = ""
    cut: threading.Event = field(default_factory=threading.Event)
    opened: Iterator[int] = field(default_factory=count)

    @property
    def studies(self) -> tuple[str, ...]:
        """Return the studies that it is about, none for all."""
        return (self.study,) if self.study else self.query.uids("StudyInstanceUID")

    def header(self, holding: Holding) -> Dataset:
        """Return an object's header, an empty one where its file is gone or damaged.

        Raises:
            _SpentError: so many files were opened that the search ends here.
        """
        if next(self.opened) >= MOST_FILES:
            raise _SpentError
        try:
            return header_of(self.console.house.spool, holding)
        except HTTPException:
            return Dataset()


class _SpentError(Exception):
    """A search opened as many files as one may."""


Found = Iterator[Dataset]


@router.get("/studies")
async def studies(request: Request, visitor: Asks, console: Here) -> Response:
    """Search for studies."""
    return await _searched(request, visitor, console, ("", "", _studies, STUDY_KEYS))


@router.get("/series")
async def all_series(request: Request, visitor: Asks, console: Here) -> Response:
    """Search for series of all studies."""
    return await _searched(request, visitor, console, ("", "", _series, (*STUDY_KEYS, *SERIES_KEYS)))


@router.get("/instances")
async def all_instances(request: Request, visitor: Asks, console: Here) -> Response:
    """Search for instances of all studies."""
    keys = (*STUDY_KEYS, *SERIES_KEYS, *INSTANCE_KEYS)
    return await _searched(request, visitor, console, ("", "", instances_of, keys))


@router.get("/studies/{study}/series")
async def series(request: Request, visitor: Asks, console: Here, study: Uid) -> Response:
    """Search for a study's series."""
    return await _searched(request, visitor, console, (study, "", _series, SERIES_KEYS))


@router.get("/studies/{study}/instances")
async def study_instances(request: Request, visitor: Asks, console: Here, study: Uid) -> Response:
    """Search for a study's instances."""
    return await _searched(request, visitor, console, (study, "", instances_of, (*SERIES_KEYS, *INSTANCE_KEYS)))


@router.get(f"{SERIES}/instances")
async def instances(
    request: Request, visitor: Asks, console: Here, sought: Annotated[Wanted, Depends(of_series)]
) -> Response:
    """Search for a series' instances."""
    return await _searched(
        request, visitor, console, (sought.study_uid, sought.series_uid, instances_of, INSTANCE_KEYS)
    )


_Level = tuple[str, str, Callable[[Search], Found], Sequence[str]]


async def _searched(request: Request, visitor: Visitor, console: Console, level: _Level) -> Response:
    """Answer in one of a few threads: who waits for one holds none, and leaves the others to the pages."""
    return await to_thread.run_sync(_answer, request, visitor, console, level, limiter=_SEARCHES)


def _answer(request: Request, visitor: Visitor, console: Console, level: _Level) -> Response:
    study, series_uid, find, supported = level
    among(request, (DICOM_JSON, "application/json"))
    try:
        query = parse(request.query_params.multi_items(), supported)
    except RefusedError as error:
        raise HTTPException(400, str(error)) from error
    base = f"{str(request.base_url).rstrip('/')}{DICOMWEB}"
    record.queried(console, visitor, query.keys)
    search = Search(console=console, query=query, base=base, study=study, series=series_uid)
    page = found_by(search, find)
    answer = Response(json.dumps([document(one) for one in page[: query.limit]]), media_type=DICOM_JSON)
    if query.fuzzy:
        answer.headers.append("Warning", _LITERAL)
    if len(page) > query.limit or search.cut.is_set():
        answer.headers.append("Warning", _MORE)
    return answer


def found_by(search: Search, find: Callable[[Search], Found]) -> list[Dataset]:
    """Return a page of what is found and the first of the next, as far as the search goes."""
    page: list[Dataset] = []
    try:
        for one in islice(find(search), search.query.offset, search.query.offset + search.query.limit + 1):
            page.append(one)  # noqa: PERF402 - what was found before the end counts
    except _SpentError:
        search.cut.set()
    return page


def _each(search: Search) -> Iterator[tuple[str, list[list[Holding]]]]:
    """Yield the studies that may fit, newest first, each with what is kept of its series."""
    holdings = Holdings(search.console.house.engine)
    after, seen = None, 0
    while seen < _MOST_STUDIES and (rows := holdings.studies(search.studies[:_MOST_STUDIES], after, _PAGE)):
        for _, uid in rows:
            groups: dict[str, list[Holding]] = {}
            for one in holdings.objects(Wanted(study_uid=uid, series_uid=search.series)):
                groups.setdefault(one.series_uid, []).append(one)
            if groups:
                yield uid, list(groups.values())
        after, seen = rows[-1], seen + len(rows)
    if seen >= _MOST_STUDIES:
        search.cut.set()


def _studies(search: Search) -> Found:
    for uid, groups in _each(search):
        found = _study(search, groups)
        if fits(found, search.query.only(STUDY_KEYS)):
            found.RetrieveURL = f"{search.base}/studies/{uid}"
            yield found


def _study(search: Search, groups: Sequence[Sequence[Holding]]) -> Dataset:
    headers = [search.header(group[0]) for group in groups]
    found = _taken(headers[0], STUDY_KEYS, search.query.include)
    found.StudyInstanceUID = groups[0][0].study_uid
    found.ModalitiesInStudy = sorted({str(header.Modality) for header in headers if header.get("Modality")})
    found.NumberOfStudyRelatedSeries = len(groups)
    found.NumberOfStudyRelatedInstances = sum(map(len, groups))
    found.InstanceAvailability = "ONLINE"
    return found


def _series(search: Search) -> Found:
    of_study = search.query.only(STUDY_KEYS)
    uids = search.query.uids("SeriesInstanceUID")
    for study, groups in _each(search):
        if of_study and not fits(_study(search, groups), of_study):
            continue
        for group in groups:
            uid = group[0].series_uid
            if uids and uid not in uids:
                continue
            found = _taken(search.header(group[0]), SERIES_KEYS, search.query.include)
            found.StudyInstanceUID, found.SeriesInstanceUID = study, uid
            found.NumberOfSeriesRelatedInstances = len(group)
            found.RetrieveURL = f"{search.base}/studies/{study}/series/{uid}"
            if fits(found, search.query.only(SERIES_KEYS)):
                yield found


def instances_of(search: Search) -> Found:
    """Yield the instances that fit."""
    of_study, of_series = search.query.only(STUDY_KEYS), search.query.only(SERIES_KEYS)
    for _, groups in _each(search):
        if of_study and not fits(_study(search, groups), of_study):
            continue
        for group in groups:
            if not of_series or fits(_taken(search.header(group[0]), SERIES_KEYS), of_series):
                yield from _of_group(search, group)


def _of_group(search: Search, group: Sequence[Holding]) -> Found:
    wanted, classes = search.query.uids("SOPInstanceUID"), search.query.uids("SOPClassUID")
    for one in group:
        if (wanted and one.sop_instance_uid not in wanted) or (classes and one.sop_class_uid not in classes):
            continue
        found = _taken(search.header(one), (*INSTANCE_KEYS, *_SHAPE), search.query.include)
        found.SOPClassUID, found.SOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
        found.StudyInstanceUID, found.SeriesInstanceUID = one.study_uid, one.series_uid
        found.InstanceAvailability = "ONLINE"
        place = f"studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_instance_uid}"
        found.RetrieveURL = f"{search.base}/{place}"
        if fits(found, search.query.only(INSTANCE_KEYS)):
            yield found


def _taken(header: Dataset, keywords: Iterable[str], more: Iterable[str] = ()) -> Dataset:
    """Return these attributes of a header; one that it lacks is there and empty, unless it was asked for besides."""
    found = Dataset()
    if "SpecificCharacterSet" in header:
        found["SpecificCharacterSet"] = header["SpecificCharacterSet"]
        header.decode()
    for keyword in keywords:
        if keyword in header:
            found[keyword] = header[keyword]
        elif dictionary_VR(keyword) not in {"US", "IS"}:
            setattr(found, keyword, None)
    for keyword in more:
        if keyword in header:
            found[keyword] = header[keyword]
    return found
