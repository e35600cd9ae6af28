"""What a person chooses for a table: one frozen record, and the constants all tables share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from placerec.errors import UsageError
from placerec.evaluation.scoring.metrics import RECALL_AT
from placerec.reproduce.folder import file_name

LIST_SEED = 0
RETRIEVAL_DIM = 512  # the shortlist of every table, as in the paper's speed setting
DIM = 512  # patch descriptors where a table does not vary them
CLUSTERS, PCA_DIM = 16, 4096  # of the published form that a trunk is fitted in


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a table; see ``placerec reproduce --help``.

    ``model`` is a trunk, an ONNX file, or a fitted model in the published form. ``distractors``
    are folders of photos that join a database: a path, or SET=PATH for one set alone.
    ``queries_list`` is a CSV file, or a folder with one named SET.csv a set. ``queries`` is how
    many are asked, a seeded choice; none = all. ``clusters`` and ``pca_dim`` are for the fit of a
    trunk (none: 16 and 4096); smaller PCAs are the leading dimensions of the one a set gets.
    """

    model: str
    distractors: tuple[str, ...] = ()
    ground_truth: Path | None = None
    queries_list: Path | None = None
    half: str | None = None
    queries: int | None = 100
    candidates: int = 20
    image_size: tuple[int, int] = (480, 640)
    threads: int = 1
    clusters: int | None = None
    pca_dim: int | None = None

    def __post_init__(self) -> None:
        if self.queries is not None and self.queries < 1:
            raise UsageError("queries: must be at least 1")
        if self.candidates < max(RECALL_AT):
            raise UsageError(f"candidates: recall@{max(RECALL_AT)} needs at least as many")

    def as_json(self) -> dict[str, object]:
        """These options as a table's ``.json`` file keeps them, all that decide its numbers.

        Threads change no number but the times. Of a path its end alone: where photos lie is no
        option (their hashes are kept elsewhere).
        """
        values = asdict(self)
        del values["threads"]
        values |= {"clusters": self.clusters or CLUSTERS, "pca_dim": self.pca_dim or PCA_DIM}
        values["distractors"] = [
            f"{named}{equals}{_end(path)}"
            for named, equals, path in (text.rpartition("=") for text in self.distractors)
        ]
        return {key: _end(v) if isinstance(v, Path) else v for key, v in values.items()}

    def distractors_of(self, set_name: str) -> list[Path]:
        """The distractor folders of one set."""
        folders = []
        for text in self.distractors:
            named, _, path = text.rpartition("=")
            if named in ("", set_name):
                folders.append(Path(path))
        return folders

    def check_sets(self, names: list[str]) -> None:
        """Refuse options that cannot be meant for the sets ``names``."""
        files = [file_name(name) for name in names]
        twice = [name for name in names if files.count(file_name(name)) > 1]
        if twice:
            raise UsageError(f"data set {twice[0]}: given twice; folders need different names")
        for text in self.distractors:
            named = text.rpartition("=")[0]
            if named and named not in names:
                raise UsageError(f"distractors {text}: no such set; one of {', '.join(names)}")
        if len(names) > 1 and self.ground_truth is not None:
            raise UsageError("ground truth: one file is for one data set; give one data set")
        if len(names) > 1 and self.queries_list is not None and not self.queries_list.is_dir():
            raise UsageError(
                "queries list: one file is for one data set; give a folder with a SET.csv for each"
            )


def _end(path: Path | str) -> str:
    return "/".join(Path(path).parts[-2:])
