"""One data set of a table: photos, feature maps, model, shortlists and matches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from placerec.errors import UsageError
from placerec.evaluation.dataset import Search
from placerec.evaluation.layouts import open_dataset
from placerec.evaluation.query_lists import sample_queries, select_queries, with_distractors
from placerec.evaluation.scoring.metrics import recalls
from placerec.evaluation.searchers import save_array
from placerec.files import file_sha256
from placerec.method.ranking import shortlist
from placerec.models.fit import MOST_WINDOWS, VECTORS_PER_DIMENSION, fit_model, photos_for_fit
from placerec.models.model import Model, on_device
from placerec.models.model_file import model_from_bytes, save_model
from placerec.models.resolve import Resolved
from placerec.photos.decode import decode
from placerec.records import Array
from placerec.reproduce.folder import ResultFolder, Row, digest, file_name, size_label
from placerec.reproduce.matches import FeatureMapFiles, Matches, Variant, kinds_of, map_reported
from placerec.reproduce.parameters import CLUSTERS, DIM, PCA_DIM, RETRIEVAL_DIM, Parameters
from placerec.runtime import Runtime
from placerec.settings import METHODS, AnySettings
from placerec.trunks import feature_map
from placerec.trunks.map_cache import map_folder, stored_map
from placerec.workers import map_in_order


@dataclass(frozen=True)
class Study:
    """One data set with the parameters of a table.

    ``search`` holds the queries to ask and the database, with the distractors last. The trunk of
    ``opened`` runs each photo on one thread. A new study stores its lists in ``result``, which
    raises ``UsageError`` if they have changed.
    """

    name: str
    search: Search
    parameters: Parameters
    result: ResultFolder = field(repr=False)
    opened: Resolved = field(repr=False)
    runtime: Runtime = field(repr=False)

    def __post_init__(self) -> None:
        facts = {key: value for key, value in self.label.items() if key != "set"}
        names = self.search.database.names
        facts |= {"database": len(names), "database_list": digest(names)}
        self.result.remember_set(self.name, **facts)

    @property
    def candidates(self) -> int:
        """The number of candidates per query."""
        return min(self.parameters.candidates, len(self.search.database))

    @cached_property
    def label(self) -> Row:
        """The first cells of every row: data set, number of queries and candidates, query list."""
        names = self.search.queries.names
        return {"set": self.name, "queries": len(names), "candidates": self.candidates,
                "list": digest(names)}  # fmt: skip

    def row(self, orders: Sequence[Array], **cells: object) -> Row:
        """Return a row: the label, ``cells``, and the recalls of ``orders``.

        ``orders`` holds database rows, best first, one array per query.
        """
        names = self.search.database.names
        ranked = {
            query: [names[row] for row in order]
            for query, order in zip(self.search.queries.names, orders, strict=True)
        }
        return {**self.label, **cells, **recalls(ranked, self.search.answers)}

    def variant_rows(self, variants: Sequence[Variant]) -> list[Row]:
        """Return the row of the shortlist, and a row per variant with its re-ranked candidates."""
        matches = self.matches(variants)
        rows = [self.row(matches.lists, method="NetVLAD")]
        for sizes, dim, scorer in variants:
            cells = {"sizes": size_label(sizes), "dim": dim, "scorer": scorer}
            rows.append(self.row(matches.orders(sizes, dim, scorer), method="re-ranked", **cells))
        return rows

    def feature_maps(
        self, photos: Sequence[Path], stage: str, change: Callable[[Array], Array] | None = None,
        folder: Path | None = None,
    ) -> FeatureMapFiles:  # fmt: skip
        """Return the feature maps of ``photos``; compute those that are not stored yet.

        If there is a ``change``, the trunk sees the pixels that it returns, and these maps need
        their own ``folder``.
        """
        trunk, size = self.opened.trunk, self.parameters.image_size
        folder = folder or map_folder(trunk.sha256, size)
        files = [folder / f"{file_sha256(photo)}.npy" for photo in photos]
        shrink_to = trunk.preprocessing(size).shrink_to

        def compute(item: tuple[Path, Path]) -> None:
            def features() -> Array:
                pixels = decode(item[1], shrink_to=shrink_to).pixels
                return feature_map(trunk, change(pixels) if change else pixels, size)

            stored_map(item[0], features)

        photo_of = dict(zip(files, photos, strict=True))  # equal photos share a file
        missing = [item for item in photo_of.items() if not item[0].is_file()]
        map_reported(compute, missing, stage, self.runtime)
        return FeatureMapFiles(files)

    @cached_property
    def database_maps(self) -> FeatureMapFiles:
        """The feature maps of the database photos."""
        return self.feature_maps(self.search.database.paths, "database photos")

    @cached_property
    def query_maps(self) -> FeatureMapFiles:
        """The feature maps of the queries."""
        return self.feature_maps(self.search.queries.paths, "query photos")

    @cached_property
    def cache(self) -> Path:
        """The folder of everything that is expensive and depends on this database."""
        folder = self.result.cache / file_name(f"{self.name}-{self.database_maps.digest}")
        folder.mkdir(exist_ok=True)
        return folder

    @cached_property
    def model(self) -> Model:
        """The model of the parameters; a trunk is fitted in the published form."""
        model = self.opened.model and on_device(self.opened.model, self.runtime)
        if model is None:
            photos = len(photos_for_fit(self.search.database.names))
            clusters = self.parameters.clusters or CLUSTERS
            views = 2 * (MOST_WINDOWS + 1)  # of a photo and of the mirrored photo
            samples = round(photos * views / VECTORS_PER_DIMENSION) - 1
            values = clusters * self.opened.trunk.channels
            dim = min(self.parameters.pca_dim or PCA_DIM, values, samples)
            model = self.fitted(METHODS["paper-speed"].replace(clusters=clusters, global_dim=dim))
        self.remember(model)
        return model

    def remember(self, model: Model, part: str = "") -> None:
        """Store which model makes the rows of this data set, or of a ``part`` of them."""
        training = f"{model.name}, {model.training_data}; PCA to {_dimensions(model)}"
        facts = {f"model{part}": model.fingerprint, f"training{part}": training}
        self.result.remember_set(self.name, **facts)

    def fitted(self, settings: AnySettings) -> Model:
        """Return a model of the trunk, fitted on the database photos and stored in the cache."""
        settings = settings.replace(image_size=self.parameters.image_size)
        path = self.cache / f"model-{digest((settings.to_json(),))}.safetensors"
        trunk, database = self.opened.trunk, self.search.database
        if not path.is_file():
            paths = dict(zip(database.names, database.paths, strict=True))
            photos = [paths[name] for name in photos_for_fit(database.names)]
            model = fit_model(
                trunk, settings, self.feature_maps(photos, "photos of the fit"),
                name=f"{trunk.name} fitted on {self.name}",
                training_data=f"{len(photos)} photos of {self.name}, without labels",
                mirrored=self._mirrored(photos),
                progress=lambda done, n: self.runtime.progress("fitting the model", done, n),
            )  # fmt: skip
            save_model(model, path)
        return on_device(model_from_bytes(path.read_bytes(), path, trunk), self.runtime)

    def _mirrored(self, photos: Sequence[Path]) -> Iterator[Array]:
        """The feature maps of the mirrored photos, computed only if the PCA lacks vectors."""
        folder = self.cache / "mirrored"
        yield from self.feature_maps(photos, "mirrored photos", lambda p: p[:, ::-1], folder)

    @property
    def dimensions(self) -> int:
        """The largest number of dimensions of the model's patch descriptors."""
        return _dimensions(self.model)

    @property
    def dim(self) -> int:
        """The dimensions of patch descriptors, unless a table varies them."""
        return min(DIM, self.dimensions)

    def retrieval(self, model: Model) -> Model:
        """Return ``model`` without patches, with a global vector of at most 512 dimensions."""
        changes: Row = {"patch_sizes": (), "scale_weights": None}
        if model.settings.form == "published":
            changes["pca_dim"] = min(RETRIEVAL_DIM, model.settings.pca_dim)
        return model.with_settings(model.settings.replace(**changes))

    def shortlists(self, model: Model, queries: Sequence[Array]) -> list[Array]:
        """Return the candidates of each query (a feature map): database rows, best first."""
        model = self.retrieval(model)
        path = self.cache / f"global-{model.fingerprint[:12]}.npy"

        def describe(features: Array) -> Array:
            return model.describe_map(features).global_descriptor

        if not path.is_file():
            vectors = map_reported(describe, self.database_maps, "global descriptors", self.runtime)
            save_array(path, np.stack(vectors))
        database = np.load(path, allow_pickle=False)
        described = map_in_order(describe, queries, self.runtime.cores)
        return [shortlist(vector, database, self.candidates)[0] for vector in described]

    def matches(
        self, variants: Sequence[Variant], model: Model | None = None,
        queries: FeatureMapFiles | None = None,
    ) -> Matches:  # fmt: skip
        """Match queries with their candidates, and compute the scores that ``variants`` need.

        By default all queries of the list are matched, with the study's model.
        """
        model = self.model if model is None else model
        queries = self.query_maps if queries is None else queries
        lists = self.shortlists(model, queries)
        rows = [str(row.tolist()) for row in lists]
        folder = self.cache / f"matches-{digest((queries.digest, model.fingerprint, *rows))}"
        matches = Matches(folder, lists, self.runtime)
        matches.compute(model, queries, self.database_maps, kinds_of(variants))
        matches.score_all(variants)
        return matches


def _dimensions(model: Model) -> int:
    projection = model.fitted.patch_projection
    return projection.dimensions if projection else model.settings.pca_dim


def read_search(folder: str | Path, parameters: Parameters) -> Search:
    """Read the data set in ``folder``, with the chosen queries and the distractors."""
    name = Path(folder).resolve().name
    table = parameters.queries_list
    if table is not None and Path(table).is_dir():
        table = Path(table) / f"{name}.csv"
    dataset = open_dataset(folder, parameters.protocol, ground_truth=parameters.ground_truth)
    dataset = with_distractors(dataset, parameters.distractors_of(name))
    if len(dataset.searches) != 1:
        raise UsageError(
            f"{folder}: has {len(dataset.searches)} searches, but a table needs a data set of one"
        )
    dataset = select_queries(dataset, table, parameters.half)
    return sample_queries(dataset, parameters.queries).searches[0]
