"""Predictions of other programs in, ours out: the text forms that people pass around.

========================  ==================================================================
``kapture``               pairs file: ``query, database, score`` a line
``hloc``                  ``query database`` a line, best first; COLMAP's match list is the same
``text``                  the query, then its answers, separated by blanks
``msls``                  the same with keys (names without folder and suffix), as the Mapillary
                          SLS evaluator takes it
``patchnetvlad``          the published program's prediction files: ``query, database`` a line
``visuallocalization``    a pose a query: ``name qw qx qy qz tx ty tz``; only written
========================  ==================================================================

All are UTF-8; lines that begin with ``#`` are comments. hloc and kapture know a photo by its path
below one folder of images (``queries/1.jpg``, ``database/1.jpg``), so that is what their forms get;
the others have our names. A name in a file stands for the photo that has it or that path, else for
the one photo whose path ends so (``photo_names``): other programs prepend folders or leave folders
and suffixes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from placerec.errors import BadTable, NotFound, UsageError
from placerec.evaluation.dataset import Dataset, Search
from placerec.evaluation.photo_names import PhotoNames, paths_in_tree
from placerec.evaluation.predictions import Prediction, Ranking
from placerec.files import write_text
from placerec.records import Array

NO_SCORE = math.nan  # of an answer whose form has none: then there is no confidence either
RECORDS = "sensors/records_data/"  # of kapture: images are known by their paths below it
RIG_CAMERAS = ("left", "rear", "right")  # RobotCar's folders, kept before the name in a submission

Key = tuple[str, str]  # search and query
Said = tuple[str, list[tuple[str, float]]]  # a line: the query, and its answers with scores
Answers = Sequence[tuple[Search, Sequence[Ranking]]]  # a ranking for each query, in their order


@dataclass(frozen=True, slots=True)
class Form:
    """How one form is read (a line at a time, ``None`` where it cannot be) and written.

    ``once``: all answers to a query stand in one line. ``by_score``: the scores order the answers,
    not the lines.
    """

    parse: Callable[[str], Said] | None
    lines: Callable[[Answers], Iterator[str]]
    once: bool = False
    by_score: bool = False


def import_predictions(
    form: str, dataset: Dataset, path: Path, reranked: Path | None = None
) -> dict[Key, Prediction]:
    """Read a ranking as ``retrieved``, and one of a second file as ``reranked``.

    Queries without a line are not in the result (they count as not found). Raises ``BadTable`` with
    the line where a name is unknown or ambiguous, or an answer comes twice.
    """
    first = _read(form, dataset, path)
    second = {} if reranked is None else _read(form, dataset, reranked)
    return {
        key: Prediction(
            *key, first.get(key, ()), second.get(key, ()) if reranked is not None else None
        )
        for key in dict.fromkeys((*first, *second))
    }


def export_predictions(
    form: str,
    dataset: Dataset,
    predictions: Mapping[Key, Prediction],
    path: Path,
    *,
    retrieved: bool = False,
) -> None:
    """Write the final ranking (or the ``retrieved`` one) of every query, in the set's order.

    Raises ``UsageError`` for a name that the form cannot carry; then nothing is written.
    """
    form_lines = _named_form(form).lines
    answers = [
        (search, [_chosen(predictions.get((search.name, name)), retrieved)
                  for name in search.queries.names])
        for search in dataset.searches
    ]  # fmt: skip
    write_text(path, "".join(f"{line}\n" for line in form_lines(answers)))


def _chosen(one: Prediction | None, retrieved: bool) -> Ranking:
    if one is None:
        return ()
    return one.retrieved if retrieved or one.reranked is None else one.reranked


def _read(form: str, dataset: Dataset, path: Path) -> dict[Key, Ranking]:
    chosen = _named_form(form)
    if chosen.parse is None:
        raise UsageError(f"{form}: holds poses, no rankings, and can only be written")
    names = _Names(dataset)
    found: dict[Key, dict[str, float]] = {}
    for line, text in _lines(path):
        try:
            _take(chosen, names, found, text)
        except ValueError as error:
            raise BadTable(path, line, str(error)) from error
    if not found:
        raise NotFound(path, "no answer in it", f"a file of the form {form} is needed")
    rankings = {key: tuple(ranking.items()) for key, ranking in found.items()}
    return {
        key: _by_score(ranking) if chosen.by_score else ranking for key, ranking in rankings.items()
    }


class _Names:
    """The queries of a data set, and the database photos of each of its searches."""

    def __init__(self, dataset: Dataset) -> None:
        queries: dict[Key, str] = {}
        self.photos: dict[str, PhotoNames] = {}
        for one in dataset.searches:
            asked, known = paths_in_tree(one)
            queries |= {(one.name, name): path for name, path in asked.items()}
            self.photos[one.name] = PhotoNames(
                {(one.name, name): path for name, path in known.items()}
            )
        self.queries = PhotoNames(queries)


def _take(form: Form, names: _Names, found: dict[Key, dict[str, float]], text: str) -> None:
    """Add what a line says; ``ValueError`` where it cannot be meant."""
    if form.parse is None:
        return
    query, answers = form.parse(text)
    key = names.queries.find(query, "query")
    if form.once and key in found:
        raise ValueError(
            f"query {query} has a line already, and all its answers belong there; pairs, an answer "
            "a line, are the form hloc"
        )
    ranking = found.setdefault(key, {})
    for answer, score in answers:
        _, name = names.photos[key[0]].find(answer, "database photo")
        if name in ranking:
            raise ValueError(f"{answer} is an answer to {query} already")
        ranking[name] = score


def _named_form(name: str) -> Form:
    if name not in FORMS:
        raise UsageError(f"{name}: no such form; there are {', '.join(FORMS)}")
    return FORMS[name]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; split at line feeds only, as names may hold other separators."""
    if not path.is_file():
        raise NotFound(path, "no such file")
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.startswith("#"):
            yield number, line.removesuffix("\r")


def _by_score(ranking: Ranking) -> Ranking:
    """By falling score, equal ones in the order of the lines; without scores as it is."""
    if any(math.isnan(score) for _, score in ranking):
        return ranking
    return tuple(sorted(ranking, key=lambda answer: -answer[1]))


def _parse_commas(line: str) -> Said:
    query, *fields = (field.strip() for field in line.split(","))
    if len(fields) not in (1, 2) or not query or not fields[0]:
        raise ValueError("expected: query, database photo[, score]")
    return query, [(fields[0], float(fields[1]) if len(fields) > 1 else NO_SCORE)]


def _parse_pair(line: str) -> Said:
    names = line.split()
    if len(names) != 2:
        raise ValueError("expected: query, a blank, database photo (names without blanks)")
    return names[0], [(names[1], NO_SCORE)]


def _parse_list(line: str) -> Said:
    query, *answers = line.split()
    return query, [(answer, NO_SCORE) for answer in answers]


def _each(answers: Answers) -> Iterator[tuple[str, Ranking]]:
    """Every query's name with its ranking."""
    for search, rankings in answers:
        yield from zip(search.queries.names, rankings, strict=True)


def _in_tree(answers: Answers, *, kapture: bool = False) -> Iterator[tuple[str, Ranking]]:
    """Every query with its ranking by the paths that hloc and kapture know the photos by."""
    for search, rankings in answers:
        asked, known = paths_in_tree(search)
        if kapture and all(
            path.endswith(RECORDS + name)
            for paths in (asked, known)
            for name, path in paths.items()
            if not name.startswith("/")
        ):  # its own folders, mapping and query
            asked, known = ({name: name for name in paths} for paths in (asked, known))
        for query, ranking in zip(search.queries.names, rankings, strict=True):
            yield asked[query], tuple((known.get(name, name), score) for name, score in ranking)


def _kapture(answers: Answers) -> Iterator[str]:
    """Readers order by score, so where ours do not fall (or are unknown) it is 1 / rank."""
    yield "# kapture format: 1.1"
    yield "# query_image, map_image, score"
    for query, ranking in _in_tree(answers, kapture=True):
        values = [score for _, score in ranking]
        if not np.all(np.isfinite(values)) or sorted(values, reverse=True) != values:
            values = [1.0 / rank for rank in range(1, len(values) + 1)]
        for (name, _), value in zip(ranking, values, strict=True):
            yield f"{_no_comma(query)}, {_no_comma(name)}, {value!r}"


def _patchnetvlad(answers: Answers) -> Iterator[str]:
    yield "# kapture format: 1.0"
    yield "# query_image, map_image"
    for query, ranking in _each(answers):
        for name, _ in ranking:
            yield f"{_no_comma(query)}, {_no_comma(name)}"


def _hloc(answers: Answers) -> Iterator[str]:
    for query, ranking in _in_tree(answers):
        for name, _ in ranking:
            yield f"{_no_blank(query)} {_no_blank(name)}"


def _text(answers: Answers) -> Iterator[str]:
    for query, ranking in _each(answers):
        yield " ".join(map(_no_blank, (query, *(name for name, _ in ranking))))


def _msls(answers: Answers) -> Iterator[str]:
    """The evaluator wants a row for each query and rows of one length: all are cut to the shortest.

    A comma would make a key a sequence of keys. Distractors have none that the evaluator knows.
    """
    answers = [_without_distractors(*one) for one in answers]
    for query, ranking in _each(answers):
        if not ranking:
            raise UsageError(f"{query}: has no answer, but this form needs one for each query")
    shortest = min((len(ranking) for _, ranking in _each(answers)), default=0)
    asked = _keys(query for query, _ in _each(answers))
    for search, rankings in answers:
        keys = _keys(search.own_names)
        for query, ranking in _each([(search, rankings)]):
            yield " ".join((asked[query], *(keys[name] for name, _ in ranking[:shortest])))


def _without_distractors(
    search: Search, rankings: Sequence[Ranking]
) -> tuple[Search, Sequence[Ranking]]:
    own = set(search.own_names)
    return search, [tuple(one for one in ranking if one[0] in own) for ranking in rankings]


def _keys(names: Iterable[str]) -> dict[str, str]:
    keys: dict[str, str] = {}
    owners: dict[str, str] = {}
    for name in names:
        key = _no_comma(_no_blank(PurePosixPath(name).stem))
        if key in owners:
            raise UsageError(
                f"{name} and {owners[key]} have the same key {key}; this form cannot tell them "
                f"apart, text can"
            )
        keys[name], owners[key] = key, name
    return keys


def _poses(answers: Answers) -> Iterator[str]:
    """The pose of the best database photo that has one, from world to camera.

    The server knows a query by its file name, RobotCar's with the camera's folder before it. A
    query without an answer has no line.
    """
    if all(search.database.poses is None for search, _ in answers):
        raise UsageError("this form holds poses, but no database photo of this data set has one")
    owners: dict[str, str] = {}
    for search, rankings in answers:
        poses = _known_poses(search)
        for query, ranking in _each([(search, rankings)]):
            path = PurePosixPath(query)
            camera = path.parent.name
            name = _no_blank(f"{camera}/{path.name}" if camera in RIG_CAMERAS else path.name)
            if name in owners:
                raise UsageError(f"{query} and {owners[name]} would both be {name} in this form")
            owners[name] = query
            pose = next((poses[answer] for answer, _ in ranking if answer in poses), None)
            if pose is not None:
                turned = pose[:3, :3].T
                numbers = (*quaternion(turned), *(-turned @ pose[:3, 3]))
                yield " ".join((name, *(f"{number:.12g}" for number in numbers)))


def _known_poses(search: Search) -> dict[str, Array]:
    """Without distractors: they may stand in other coordinates."""
    poses = search.database.poses
    if poses is None:
        return {}
    own = len(poses) - search.distractors
    pairs = zip(search.database.names[:own], poses[:own], strict=True)
    return {name: pose for name, pose in pairs if not np.any(np.isnan(pose))}


def quaternion(rotation: Array) -> list[float]:
    """Unit quaternion (w, x, y, z), w >= 0, of a rotation (3, 3).

    It is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack, 2000), which
    has no special cases.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    matrix = np.array([
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ])  # fmt: skip
    largest = np.linalg.eigh(matrix)[1][:, -1]
    return [float(value) for value in (largest if largest[0] >= 0 else -largest)]


def _no_blank(name: str) -> str:
    if name.split() != [name] or name.startswith("#"):
        raise UsageError(f"{name!r}: blanks (or a # in front) cannot be written; use kapture")
    return name


def _no_comma(name: str) -> str:
    if any(sign in name for sign in ",\n\r") or name.strip() != name or name.startswith("#"):
        raise UsageError(f"{name!r}: a comma (or a # in front) cannot be written in this form")
    return name


FORMS = {
    "kapture": Form(_parse_commas, _kapture, by_score=True),
    "hloc": Form(_parse_pair, _hloc),
    "text": Form(_parse_list, _text, once=True),
    "msls": Form(_parse_list, _msls, once=True),
    "patchnetvlad": Form(_parse_commas, _patchnetvlad),
    "visuallocalization": Form(None, _poses),
}
