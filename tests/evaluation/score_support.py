"""Small data sets and predictions that can be scored by hand."""

from dataclasses import replace
from pathlib import Path

from placerec.evaluation.dataset import Dataset, Photos, Protocol, Search
from placerec.evaluation.predictions import Prediction


def photos(names, **known):
    return Photos(tuple(names), tuple(Path("photos") / name for name in names), **known)


def town(positives, database=8, name="town", queries=None, shown=None, **search):
    """One search: ``q0.jpg`` is answered by the photos ``positives[0]`` of ``d0.jpg``, ..."""
    queries = queries or photos(f"q{n}.jpg" for n in range(len(positives)))
    shown = shown or photos(f"d{n}.jpg" for n in range(database))
    return Search(name, queries, shown, tuple(map(frozenset, positives)), **search)


def data_set(*searches, **protocol):
    return Dataset("toy", Protocol("toy", "by hand", **protocol), searches)


def ranking(numbers, score=0.9):
    """Falling scores from ``score`` on."""
    return tuple((f"d{n}.jpg", score - 0.01 * place) for place, n in enumerate(numbers))


def predictions(data, *lists, scores=None, reranked=None):
    """Answers to the queries in their order; ``None`` leaves a query out."""
    found = {}
    keys = [(search.name, query) for search in data.searches for query in search.queries.names]
    for place, (key, numbers) in enumerate(zip(keys, lists, strict=True)):
        if numbers is not None:
            one = Prediction(*key, ranking(numbers, scores[place] if scores else 0.9))
            if reranked is not None:
                one = replace(one, reranked=ranking(reranked[place]))
            found[key] = one
    return found
