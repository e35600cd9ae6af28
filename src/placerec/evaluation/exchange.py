"""Import predictions of other programs, and export ours, as text files.

docs/EVALUATION.md describes the forms in ``FORMS``. All files are UTF-8; lines that begin with
``#`` are comments. hloc and kapture know a photo by its path below one folder of images
(``queries/1.jpg``, ``database/1.jpg``), so these two forms contain such paths; the other forms
contain the names of the data set. ``photo_names`` finds the photo that a name in a file means.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from placerec.errors import BadTable, NotFound, UsageError
from placerec.evaluation.photo_names import PhotoNames, paths_in_tree
from placerec.evaluation.predictions import Prediction, Ranking
from placerec.files import write_text
from placerec.text import is_word

if TYPE_CHECKING:  # the command line reads FORMS, and must not load NumPy for it
    from placerec.evaluation.dataset import Dataset, Search
    from placerec.records import Array

NO_SCORE = math.nan  # of an answer in a form without scores
RECORDS = "sensors/records_data/"  # of kapture: images are known by their paths below it
RIG_CAMERAS = ("left", "rear", "right")  # RobotCar's folders, which a submission keeps

Key = tuple[str, str]  # the names of a search and a query
Line = tuple[str, list[tuple[str, float]]]  # a query, and its answers with scores
Answers = Sequence[tuple["Search", dict[str, Ranking]]]  # one ranking per query, in their order


@dataclass(frozen=True, slots=True)
class Form:
    """How to read one line (``parse``; ``None`` if the form is export only) and write all lines.

    ``one_line`` means that all answers to a query are in one line. ``by_score`` means that the
    scores order the answers, and not the lines.
    """

    parse: Callable[[str], Line] | None
    lines: Callable[[Answers], Iterator[str]]
    one_line: bool = False
    by_score: bool = False


def import_predictions(
    form: str, dataset: Dataset, path: str | Path, reranked: str | Path | None = None
) -> dict[Key, Prediction]:
    """Read the ``retrieved`` rankings from ``path``, and the ``reranked`` ones from a second file.

    A query without a line is not in the result, and counts as not found. Raises ``BadTable`` with
    the line if a name is unknown or ambiguous, or an answer is repeated.
    """
    retrieved = _read(form, dataset, Path(path))
    if reranked is None:
        return {key: Prediction(*key, ranking) for key, ranking in retrieved.items()}
    final = _read(form, dataset, Path(reranked))
    return {
        key: Prediction(*key, retrieved.get(key, ()), final.get(key, ()))
        for key in dict.fromkeys((*retrieved, *final))
    }


def export_predictions(
    form: str,
    dataset: Dataset,
    predictions: Mapping[Key, Prediction],
    path: str | Path,
    *,
    retrieved: bool = False,
) -> None:
    """Write the final (or ``retrieved``) ranking of every query, in the order of the data set.

    Raises ``UsageError`` if the form cannot represent a name; then nothing is written.
    """
    answers = []
    for search in dataset.searches:
        rankings: dict[str, Ranking] = {}
        for name in search.queries.names:
            prediction = predictions.get((search.name, name)) or Prediction(search.name, name, ())
            rankings[name] = prediction.retrieved if retrieved else prediction.final
        answers.append((search, rankings))
    write_text(Path(path), "".join(f"{line}\n" for line in _form(form).lines(answers)))


def _form(name: str) -> Form:
    if name not in FORMS:
        raise UsageError(f"form {name}: is unknown; use one of {', '.join(FORMS)}")
    return FORMS[name]


def _read(form_name: str, dataset: Dataset, path: Path) -> dict[Key, Ranking]:
    form = _form(form_name)
    if form.parse is None:
        raise UsageError(f"form {form_name}: has poses, no rankings, and can only be written")
    queries = PhotoNames()
    photos: dict[str, PhotoNames] = defaultdict(PhotoNames)  # by search
    for search in dataset.searches:
        query_paths, photo_paths = paths_in_tree(search)
        queries.add(search.name, query_paths)
        photos[search.name].add(search.name, photo_paths)
    rankings: dict[Key, dict[str, float]] = {}
    for number, text in _lines(path):
        try:
            query, answers = form.parse(text)
            key = queries.find(query, "query")
            names = [photos[key[0]].find(answer, "database photo")[1] for answer, _ in answers]
        except ValueError as error:
            raise BadTable(path, number, str(error)) from error
        if form.one_line and key in rankings:
            why = f"query {query} has a line already; for pairs, use the form hloc"
            raise BadTable(path, number, why)
        ranking = rankings.setdefault(key, {})
        for name, (_, score) in zip(names, answers, strict=True):
            if name in ranking:
                raise BadTable(path, number, f"{name} is an answer to {query} already")
            ranking[name] = score
    if not rankings:
        raise NotFound(path, "no answer in it", f"give a file of the form {form_name}")
    if form.by_score:
        for key, ranking in rankings.items():
            if not any(map(math.isnan, ranking.values())):  # without scores, lines are the order
                rankings[key] = dict(sorted(ranking.items(), key=lambda answer: -answer[1]))
    return {key: tuple(ranking.items()) for key, ranking in rankings.items()}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers; only line feeds split, as names may have other separators."""
    if not path.is_file():
        raise NotFound(path, "no such file")
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.startswith("#"):
            yield number, line.removesuffix("\r")


def _parse_commas(line: str) -> Line:
    query, *fields = (field.strip() for field in line.split(","))
    if len(fields) not in (1, 2) or not query or not fields[0]:
        raise ValueError("expected: query, database photo[, score]")
    return query, [(fields[0], float(fields[1]) if len(fields) > 1 else NO_SCORE)]


def _parse_list(line: str) -> Line:
    query, *answers = line.split()
    return query, [(answer, NO_SCORE) for answer in answers]


def _parse_pair(line: str) -> Line:
    query, answers = _parse_list(line)
    if len(answers) != 1:
        raise ValueError("expected: query, a space, database photo (names without spaces)")
    return query, answers


def _named(answers: Answers) -> Iterator[tuple[str, Ranking]]:
    """Yield the name and the ranking of every query."""
    for _, rankings in answers:
        yield from rankings.items()


def _in_tree(answers: Answers, *, kapture: bool = False) -> Iterator[tuple[str, Ranking]]:
    """Yield every query and its ranking with the paths that hloc and kapture know the photos by.

    A kapture data set keeps its own names, which are paths below its folders of records.
    """
    for search, rankings in answers:
        queries, photos = paths_in_tree(search)
        paths = [*queries.items(), *photos.items()]
        if kapture and all(
            path.endswith(RECORDS + name) for name, path in paths if not name.startswith("/")
        ):
            yield from rankings.items()
            continue
        for query, ranking in rankings.items():
            yield queries[query], tuple((photos[name], score) for name, score in ranking)


def _kapture(answers: Answers) -> Iterator[str]:
    """Yield pairs with scores; 1 / rank replaces scores that are unknown or do not fall.

    Programs that read this form order the answers by score.
    """
    yield "# kapture format: 1.1"
    yield "# query_image, map_image, score"
    for query, ranking in _in_tree(answers, kapture=True):
        scores = [score for _, score in ranking]
        if not all(map(math.isfinite, scores)) or sorted(scores, reverse=True) != scores:
            scores = [1.0 / rank for rank in range(1, len(scores) + 1)]
        for (name, _), score in zip(ranking, scores, strict=True):
            yield f"{_no_comma(query)}, {_no_comma(name)}, {score!r}"


def _patchnetvlad(answers: Answers) -> Iterator[str]:
    yield "# kapture format: 1.0"
    yield "# query_image, map_image"
    for query, ranking in _named(answers):
        yield from (f"{_no_comma(query)}, {_no_comma(name)}" for name, _ in ranking)


def _hloc(answers: Answers) -> Iterator[str]:
    for query, ranking in _in_tree(answers):
        yield from (f"{_no_space(query)} {_no_space(name)}" for name, _ in ranking)


def _text(answers: Answers) -> Iterator[str]:
    for query, ranking in _named(answers):
        yield " ".join(map(_no_space, (query, *(name for name, _ in ranking))))


def _msls(answers: Answers) -> Iterator[str]:
    """Yield a row per query; all rows are cut to the shortest, as the evaluator requires.

    Distractors are omitted, because the evaluator has no key for them.
    """
    queries = _unique((query for query, _ in _named(answers)), _msls_key)
    rows: list[list[str]] = []
    for search, rankings in answers:
        keys = _unique(search.own_names, _msls_key)
        for query, ranking in rankings.items():
            rows.append([queries[query], *(keys[name] for name, _ in ranking if name in keys)])
            if len(rows[-1]) == 1:
                raise UsageError(f"{query}: has no answer, but this form needs one for each query")
    shortest = min(map(len, rows), default=0)
    yield from (" ".join(row[:shortest]) for row in rows)


def _msls_key(name: str) -> str:
    """Return the name without folder and suffix; a comma would make it a sequence of keys."""
    return _no_comma(_no_space(PurePosixPath(name).stem))


def _poses(answers: Answers) -> Iterator[str]:
    """Yield, for each query, the pose of its best database photo that has one (world to camera).

    A query without such an answer has no line.
    """
    if all(search.database.poses is None for search, _ in answers):
        raise UsageError("this form has poses, but no database photo of this data set has one")
    names = _unique((query for query, _ in _named(answers)), _server_name)
    for search, rankings in answers:
        poses = _known_poses(search)
        for query, ranking in rankings.items():
            pose = next((poses[answer] for answer, _ in ranking if answer in poses), None)
            if pose is not None:
                rotation = pose[:3, :3].T
                numbers = (*quaternion(rotation), *(-rotation @ pose[:3, 3]))
                yield " ".join((names[query], *(f"{number:.12g}" for number in numbers)))


def _server_name(query: str) -> str:
    """Return the file name; RobotCar's has the folder of the camera before it."""
    path = PurePosixPath(query)
    camera = path.parent.name
    return _no_space(f"{camera}/{path.name}" if camera in RIG_CAMERAS else path.name)


def _known_poses(search: Search) -> dict[str, Array]:
    """Return the poses by name, without distractors, which may have other coordinates."""
    poses = () if search.database.poses is None else search.database.poses
    pairs = zip(search.own_names, poses, strict=False)
    return {name: pose for name, pose in pairs if all(map(math.isfinite, pose.flat))}


def quaternion(rotation: Array) -> list[float]:
    """Return the unit quaternion (w, x, y, z), w >= 0, of a rotation (3, 3).

    It is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack, 2000), which
    has no special cases.
    """
    import numpy as np

    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    matrix = np.array([
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ])  # fmt: skip
    largest = np.linalg.eigh(matrix)[1][:, -1]
    return [float(value) for value in (largest if largest[0] >= 0 else -largest)]


def _unique(names: Iterable[str], short: Callable[[str], str]) -> dict[str, str]:
    """Return the short form of each name; raise ``UsageError`` if two are equal."""
    owners: dict[str, str] = {}
    for name in names:
        key = short(name)
        if key in owners:
            raise UsageError(
                f"{name} and {owners[key]} would both be {key} in this form; rename one"
            )
        owners[key] = name
    return {name: key for key, name in owners.items()}


def _no_space(name: str) -> str:
    if not is_word(name):
        raise UsageError(f"{name!r}: spaces (or a # in front) cannot be written; use form kapture")
    return name


def _no_comma(name: str) -> str:
    if any(sign in name for sign in ",\n\r") or name.strip() != name or name.startswith("#"):
        raise UsageError(f"{name!r}: a comma (or a # in front) cannot be written in this form")
    return name


FORMS = {
    "kapture": Form(_parse_commas, _kapture, by_score=True),
    "hloc": Form(_parse_pair, _hloc),
    "text": Form(_parse_list, _text, one_line=True),
    "msls": Form(_parse_list, _msls, one_line=True),
    "patchnetvlad": Form(_parse_commas, _patchnetvlad),
    "visuallocalization": Form(None, _poses),
}
