"""One data set as the tables see it: photos, query list, maps, model, shortlists, matches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.dataset import Search
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.query_lists import select_queries, with_distractors
from placerec.evaluation.scoring.metrics import recalls
from placerec.files import atomic_write
from placerec.method.ranking import shortlist
from placerec.models.fit import MOST_WINDOWS, VECTORS_A_DIMENSION, chosen_for_fit, fit_model
from placerec.models.model import Model
from placerec.models.model_file import model_from_bytes, save_model
from placerec.records import Array
from placerec.reproduce.folder import ResultFolder, Row, digest, file_name
from placerec.reproduce.maps import Maps
from placerec.reproduce.matches import Kind, Matches
from placerec.reproduce.opened_model import Subject
from placerec.reproduce.parameters import CLUSTERS, DIM, LIST_SEED, PCA_DIM, RETRIEVAL_DIM, Options
from placerec.reproduce.scores import Scores
from placerec.runtime import Progress
from placerec.settings import METHODS, Settings
from placerec.trunks import Trunk
from placerec.workers import map_in_order


@dataclass(frozen=True)
class Study:
    """A data set under a table's options.

    ``database`` are the names of the database photos, in the order of their rows, distractors
    behind them. ``queries`` is the list that is asked.
    """

    name: str
    data: Search
    options: Options
    result: ResultFolder = field(repr=False)
    subject: Subject = field(repr=False)
    progress: Progress = field(repr=False)

    @cached_property
    def photos(self) -> dict[str, Path]:
        """The database photos by name."""
        return dict(zip(self.data.database.names, self.data.database.paths, strict=True))

    @cached_property
    def database(self) -> tuple[str, ...]:
        """The names of the database photos, distractors behind them."""
        return self.data.database.names

    @cached_property
    def queries(self) -> tuple[str, ...]:
        """The query list: a seeded choice, in the order of the names."""
        names = self.data.queries.names
        some = np.random.default_rng(LIST_SEED).permutation(len(names))[: self.options.queries]
        return tuple(names[number] for number in sorted(some.tolist()))

    @cached_property
    def query_photos(self) -> dict[str, Path]:
        """The photos of the query list by name."""
        paths = dict(zip(self.data.queries.names, self.data.queries.paths, strict=True))
        return {name: paths[name] for name in self.queries}

    @property
    def candidates(self) -> int:
        """How many candidates each query has."""
        return min(self.options.candidates, len(self.database))

    @property
    def list_digest(self) -> str:
        """What names the query list."""
        return digest(self.queries)

    def row(self, ranked: Mapping[str, Sequence[str]], **cells: object) -> Row:
        """A row of a table: what it is of, ``cells``, and the recalls of the answers ``ranked``."""
        return {**self.label(), **cells, **recalls(ranked, self.data.answers)}

    def label(self) -> Row:
        """What a row is of: set, number of queries and candidates, list."""
        return {"set": self.name, "queries": len(self.queries), "candidates": self.candidates,
                "list": self.list_digest}  # fmt: skip

    @property
    def trunk(self) -> Trunk:
        """The trunk of ``--model``, run by one thread a photo."""
        return self.subject.trunk

    @cached_property
    def database_maps(self) -> Maps:
        """The trunk maps of the database photos."""
        maps = Maps(self.trunk, self.options.image_size, list(self.photos.values()))
        maps.fill(self.options.threads, self.progress, "database photos")
        return maps

    @cached_property
    def query_maps(self) -> Maps:
        """The trunk maps of the query list."""
        maps = Maps(self.trunk, self.options.image_size, list(self.query_photos.values()))
        maps.fill(self.options.threads, self.progress, "query photos")
        return maps

    @cached_property
    def cache(self) -> Path:
        """Where what is expensive and belongs to this database lies."""
        photos = digest(self.database_maps.sha256)
        named = digest((photos, self.trunk.sha256, str(self.options.image_size)))
        folder = self.result.cache / file_name(f"{self.name}-{named}")
        folder.mkdir(exist_ok=True)
        return folder

    @cached_property
    def model(self) -> Model:
        """The model of ``--model``; a trunk is fitted in the published form, PCA ``pca_dim``."""
        ready = self.subject.ready
        if ready is None:
            o = self.options
            count = len(chosen_for_fit(self.database))
            clusters = o.clusters or CLUSTERS
            views = 2 * (MOST_WINDOWS + 1)  # of a photo and of the mirrored photo
            samples = round(count * views / VECTORS_A_DIMENSION) - 1
            dim = min(o.pca_dim or PCA_DIM, clusters * self.trunk.channels, samples)
            published = METHODS["paper-speed"].replace(clusters=clusters, global_dim=dim)
            ready = self.fitted(published)
        self.remember(ready)
        return ready

    def remember(self, model: Model, of: str = "") -> None:
        """Note the model (``of`` a part of the table) that this set's rows are made with."""
        told = f"{model.name}, {model.training_data}; PCA to {_dimensions(model)}"
        self.result.remember_set(
            self.name, **{f"model{of}": model.fingerprint, f"training{of}": told}
        )

    def fitted(self, settings: Settings) -> Model:
        """A model of the trunk fitted on the database photos, kept in the cache."""
        settings = settings.replace(image_size=self.options.image_size)
        path = self.cache / f"model-{digest((settings.to_json(),))}.safetensors"
        if not path.is_file():
            chosen = set(chosen_for_fit(self.database))
            photos = [self.photos[name] for name in sorted(chosen)]
            maps = Maps(self.trunk, self.options.image_size, photos)
            told = f"{len(photos)} photos of {self.name}, without labels"
            model = fit_model(
                self.trunk, settings, maps, name=f"{self.trunk.name} fitted on {self.name}",
                training_data=told, mirrored=self._mirrored(photos),
                progress=lambda done, total: self.progress("fitting the model", done, total),
            )  # fmt: skip
            save_model(model, path)
        return model_from_bytes(path.read_bytes(), path, self.trunk)

    def _mirrored(self, photos: Sequence[Path]) -> Iterator[Array]:
        """The maps of ``photos`` mirrored, for a PCA that lacks vectors; kept in the cache."""
        folder = self.cache / "mirrored"
        folder.mkdir(exist_ok=True)
        maps = Maps(self.trunk, self.options.image_size, photos, folder)
        maps.fill(
            self.options.threads, self.progress, "mirrored photos", lambda pixels: pixels[:, ::-1]
        )
        yield from maps

    @property
    def dimensions(self) -> int:
        """The most dimensions that the model's descriptors can have."""
        return _dimensions(self.model)

    @property
    def dim(self) -> int:
        """The dimensions of patch descriptors where a table does not vary them."""
        return min(DIM, self.dimensions)

    def retrieval(self, model: Model) -> Model:
        """``model`` without patches, its global vector of at most 512 dimensions."""
        changes: Row = {"patch_sizes": (), "scale_weights": None}
        if model.settings.shared_pca:
            changes["pca_dim"] = min(RETRIEVAL_DIM, model.settings.pca_dim)
        return model.with_settings(model.settings.replace(**changes))

    def lists(self, model: Model, questions: Sequence[Array]) -> list[Array]:
        """The candidates of each question (a trunk map): database rows, best first."""
        model = self.retrieval(model)
        database = self._global_vectors(model)

        def ask(features: Array) -> Array:
            vector = model.describe_map(features).global_descriptor
            return shortlist(vector, database, self.candidates)[0]

        return list(map_in_order(ask, iter(questions), self.options.threads))

    def matches(
        self, model: Model, questions: Sequence[Array], kinds: Sequence[Kind], label: str
    ) -> Scores:
        """The matches of each question with its candidates, ready to be scored.

        ``label`` names the questions; equal questions have equal labels.
        """
        lists = self.lists(model, questions)
        listed = digest((label, model.fingerprint, *(str(rows.tolist()) for rows in lists)))
        matches = Matches(self.cache / f"matches-{listed}", lists)
        matches.compute(
            model, questions, self.database_maps, kinds, self.options.threads, self.progress
        )
        return Scores(matches, self.options.threads, self.progress)

    def scores(self, kinds: Sequence[Kind]) -> Scores:
        """The matches of the query list, with the published form."""
        label = digest(self.query_maps.sha256)
        return self.matches(self.model, self.query_maps, kinds, label)

    def ranked(self, orders: Sequence[Array], queries: Sequence[str] = ()) -> dict[str, list[str]]:
        """The names of the database photos in ``orders`` (rows, best first), a query each."""
        named = queries or self.queries
        return {name: [self.database[row] for row in rows]
                for name, rows in zip(named, orders, strict=True)}  # fmt: skip

    def _global_vectors(self, model: Model) -> Array:
        path = self.cache / f"global-{model.fingerprint[:12]}.npy"
        if not path.is_file():

            def describe(row: int) -> Array:
                return model.describe_map(self.database_maps[row]).global_descriptor

            vectors = []
            for one in map_in_order(describe, range(len(self.database)), self.options.threads):
                vectors.append(one)
                self.progress("global descriptors", len(vectors), len(self.database))
            with atomic_write(path) as partial, partial.open("wb") as file:
                np.save(file, np.stack(vectors))
        found: Array = np.load(path, allow_pickle=False)
        return found


def _dimensions(model: Model) -> int:
    projection = model.fitted.patch_projection
    return projection.dimensions if projection else model.settings.pca_dim


def read_set(folder: Path, options: Options) -> tuple[str, Search]:
    """The name and the photos of the data set in ``folder``."""
    name = folder.resolve().name
    table = options.queries_list
    if table is not None and table.is_dir():
        table = table / f"{name}.csv"
    dataset = open_dataset(folder, ground_truth=options.ground_truth)
    dataset = with_distractors(dataset, options.distractors_of(name))
    if len(dataset.searches) != 1:
        raise UsageError(f"{folder}: {len(dataset.searches)} searches, and a table is of one")
    return name, select_queries(dataset, table, options.half).searches[0]


def open_study(
    name: str, data: Search, options: Options, result: ResultFolder, subject: Subject,
    progress: Progress,
) -> Study:  # fmt: skip
    """The data set ``data``; its list and database are noted in ``result``."""
    study = Study(name, data, options, result, subject, progress)
    result.remember_set(
        name, queries=len(study.queries), list=study.list_digest,
        candidates=study.candidates, database=len(study.database),
        database_list=digest(study.database),
    )  # fmt: skip
    return study
