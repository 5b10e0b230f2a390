"""What a client of DICOMweb takes (PS3.18 8.3.3, 8.7.5): media types, each with the transfer syntax it may come in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import HTTPException, Request

DICOM, OCTETS = "application/dicom", "application/octet-stream"
DICOM_JSON = "application/dicom+json"
ANY = "*/*"
MULTIPART = "multipart/related"
_PARTS = re.compile(r'(?:[^,"]|"[^"]*")+')
_PARAMETERS = re.compile(r';\s*([A-Za-z-]+)\s*=\s*("[^"]*"|[^;"\s]+)')
_LONGEST = 4096


@dataclass(frozen=True, kw_only=True)
class Range:
    """A media type that is taken, of a whole answer or of its `parts`; `syntax` is empty where any will do."""

    media: str
    parts: bool
    syntax: str


def wanted(request: Request) -> tuple[Range, ...]:
    """Return what is taken, by the query's `accept` or the header; anything where nothing is said."""
    text = request.query_params.get("accept") or request.headers.get("accept") or ANY
    return tuple(_range(part) for part in _PARTS.findall(text[:_LONGEST]) if part.strip())


def among(request: Request, media: Sequence[str]) -> Range:
    """Return the first range that one of `media` fits; of */* it is the first of them.

    Raises:
        HTTPException: none does (406).
    """
    for found in wanted(request):
        if found.media in media:
            return found
        if found.media in {ANY, ""} or (found.media.endswith("/*") and media[0].startswith(found.media[:-1])):
            return Range(media=media[0], parts=found.parts or found.media == ANY, syntax=found.syntax)
    raise HTTPException(406, f"It can be had as {', '.join(media)}.")


def syntaxes(request: Request, media: str) -> frozenset[str]:
    """Return the transfer syntaxes in which `media` is taken; none stands for all of them."""
    fitting = [found for found in wanted(request) if found.media in {media, ANY, ""}]
    return frozenset() if not all(found.syntax for found in fitting) else frozenset(found.syntax for found in fitting)


def _range(text: str) -> Range:
    media = text.partition(";")[0].strip().lower()
    given = {name.lower(): value.strip('"') for name, value in _PARAMETERS.findall(text)}
    syntax = given.get("transfer-syntax", "")
    parts = media == MULTIPART
    return Range(
        media=given.get("type", "").lower() if parts else media, parts=parts, syntax="" if syntax == "*" else syntax
    )
