"""Small data sets and predictions that a person can score by hand."""

from dataclasses import replace
from pathlib import Path

from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.predictions import Prediction


def photos(names, **details):
    return Photos(tuple(names), tuple(Path("photos") / name for name in names), **details)


def town(positives, database=8, name="town", queries=None, shown=None, **search):
    """One search: ``q0.jpg`` is answered by the photos ``positives[0]`` of ``d0.jpg``, ..."""
    queries = queries or photos(f"q{n}.jpg" for n in range(len(positives)))
    shown = shown or photos(f"d{n}.jpg" for n in range(database))
    return Search(name, queries, shown, tuple(map(frozenset, positives)), **search)


def data_set(*searches, **protocol):
    return Dataset("toy", Protocol("toy", "by hand", **protocol), searches)


def ranking(numbers, score=0.9):
    """A ranking with falling scores, which begin at ``score``."""
    return tuple((f"d{n}.jpg", score - 0.01 * rank) for rank, n in enumerate(numbers))


def predictions(data, *lists, scores=None, reranked=None):
    """Answers to the queries, in their order; ``None`` omits a query."""
    answers = {}
    keys = [(search.name, query) for search in data.searches for query in search.queries.names]
    for row, (key, numbers) in enumerate(zip(keys, lists, strict=True)):
        if numbers is not None:
            prediction = Prediction(*key, ranking(numbers, scores[row] if scores else 0.9))
            if reranked is not None:
                prediction = replace(prediction, reranked=ranking(reranked[row]))
            answers[key] = prediction
    return answers
