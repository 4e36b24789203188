"""Answers to requests that went to no path, or by the wrong method: they name the right one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

from starlette.routing import Route

from moss_tts.server.errors import ApiError

# The least share of equal characters: a missing /v1 or an extra letter is near, another endpoint of OpenAI is not.
NEAR = 0.8


def unknown_path(routes: Sequence[Route], path: str) -> ApiError:
    """A 404 that names the nearest path, or the page that lists all paths."""
    likeness, near, template = max(_likeness(route.path, path) for route in routes)
    if likeness < NEAR:
        hint = "speech is made by POST /v1/audio/speech, and /docs names all paths"
    else:
        hint = f"the nearest is {_listed(_methods(routes, template))} {near}"
    return ApiError(404, f"there is no {path} here; {hint}", code="unknown_url")


def wrong_method(routes: Sequence[Route], method: str, path: str) -> ApiError:
    """A 405 with the methods that this path has."""
    known = {route.path for route in routes if route.path_regex.match(path)}
    # What is no route of ours is a file of the page.
    allowed = sorted({name for template in known for name in _methods(routes, template)}) or ["GET"]
    message = f"{path} takes {_listed(allowed)}, not {method}"
    return ApiError(405, message, code="method_not_allowed", headers={"Allow": ", ".join(allowed)})


def _methods(routes: Sequence[Route], template: str) -> list[str]:
    return sorted({method for route in routes if route.path == template for method in route.methods or ()} - {"HEAD"})


def _listed(methods: Iterable[str]) -> str:
    return " or ".join(methods)


def _likeness(template: str, path: str) -> tuple[float, str, str]:
    """How like a template a path is, what the template is with the path's own words, and the template.

    Parts are paired from the end, so that /voices/bob is /v1/audio/voices/{name}; parts that may be anything do not
    count.
    """
    given, parts = path.split("/"), template.split("/")
    free = [-place for place in range(1, min(len(parts), len(given)) + 1) if parts[-place].startswith("{")]
    words = {place: given[place] for place in free}
    for place in free:
        given[place] = parts[place] = ""
    likeness = SequenceMatcher(None, "/".join(given), "/".join(parts)).ratio()
    for place, word in words.items():
        parts[place] = word
    return likeness, "/".join(parts), template
