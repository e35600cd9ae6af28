"""The training, top to bottom: draw queries, mine triplets, step, validate, keep the best.

    placerec train DATASET --out DIR                       one process
    torchrun --nproc-per-node 4 -m placerec train ...      one process a GPU

Source: NetVLAD, CVPR 2016, section 4, with the schedule of Patch-NetVLAD's program; every number
and its reason stand in ``schedule``. A run is decided by its data, schedule and seed: the same
three give the same bits on a CPU with the same number of threads, also when it was killed and
resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from placerec.errors import NoRoom, UsageError
from placerec.evaluation.dataset import Search
from placerec.method.vlad import Vocabulary
from placerec.records import Array
from placerec.runtime import Progress, available_threads, no_progress
from placerec.training.checkpoint import (
    CHECKPOINT,
    NO_QUERIES,
    Basis,
    Learner,
    load_best,
    load_checkpoint,
    save_best,
    save_checkpoint,
)
from placerec.training.collapse import check_loss
from placerec.training.features import FrozenFeatures
from placerec.training.finish import MODEL, Origin, pca_vectors, trained_model, write_model
from placerec.training.journal import Journal, Say
from placerec.training.losses import triplet_loss
from placerec.training.mining import (
    Surroundings,
    check_pools,
    draw_queries,
    mine,
    portions,
    surroundings,
)
from placerec.training.network import Network, conv5
from placerec.training.processes import Processes, joined_processes
from placerec.training.schedule import Schedule, check_amounts
from placerec.training.sets import TrainingSet
from placerec.training.start import check_clusters, recorded, start_vocabulary
from placerec.training.validation import validate
from placerec.trunks.vgg16 import VGG16
from placerec.workers import single_threaded_blas

DESCRIBED_AT_ONCE = 20  # photos; the published caching batch
LOGGED_EVERY = 10  # steps
SAVED_EVERY = 50  # steps; some seconds on a GPU, ten minutes on two cores


@dataclass(frozen=True, slots=True)
class Options:
    """How a training runs, as opposed to what it learns (``Schedule``).

    ``cached`` keeps the frozen features on disk; ``vocabulary`` begins from given clusters
    instead of k-means; ``saved_every`` is counted in steps. ``weights`` are provenance and licence
    of the trunk's weights, where they are not those of the cache folder.
    """

    threads: int = field(default_factory=available_threads)
    device: str = "cpu"
    resume: bool = False
    cached: bool = True
    saved_every: int = SAVED_EVERY
    vocabulary: Vocabulary | None = None
    weights: tuple[str, str] | None = None


def train(
    data: TrainingSet,
    out: Path,
    schedule: Schedule,
    *,
    trunk: VGG16,
    validation: Sequence[Search] = (),
    options: Options | None = None,
    say: Say = lambda _: None,
    progress: Progress = no_progress,
) -> Path:
    """Train on ``data`` into the folder ``out``; returns the model file in it.

    ``trunk`` gives the frozen layers and the start of the trained ones. Without ``validation``
    all epochs run and the last network is the result.
    """
    options = options or Options()
    check_amounts(schedule, len(data.database), schedule.clusters * trunk.channels)
    torch.set_num_threads(options.threads)
    with joined_processes(options.device) as processes, single_threaded_blas():
        session = begin(data, out, schedule, trunk, validation, options, processes, say, progress)
        with closing(session.journal):
            session.epochs()
            return session.finish(trunk, options.weights or recorded(trunk))


@dataclass(slots=True, kw_only=True)
class Session:
    """One training in progress: what it works on, and what it changes (``learner``)."""

    data: TrainingSet
    around: Surroundings
    out: Path
    schedule: Schedule
    validation: Sequence[Search]
    features: FrozenFeatures
    processes: Processes
    learner: Learner
    basis: Basis
    parallel: nn.Module  # the network, under DistributedDataParallel where there are several
    journal: Journal
    saved_every: int
    progress: Progress

    def epochs(self) -> None:
        """The loop. Every piece of state is in ``run``, so a resumed one enters it anywhere."""
        run, schedule = self.learner.run, self.schedule
        if not run.validated:
            self.validate()
        while run.epoch < schedule.epochs and run.not_improved <= schedule.patience:
            if not len(run.order):
                run.order = draw_queries(self.data, self.around, schedule, self.learner.rng)
            parts = portions(run.order, schedule.portion)
            while run.portion < len(parts):
                if run.triplets is None:
                    run.triplets = self.mine(parts[run.portion])
                    self.save()
                self.descend(run.triplets)
                run.portion, run.triplets, run.batch = run.portion + 1, None, 0
            run.epoch, run.order, run.portion = run.epoch + 1, NO_QUERIES, 0
            self.validate()

    def mine(self, queries: Array) -> Array:
        """Triplets of one portion by the descriptors that the network gives now."""
        triplets = mine(
            queries, self.data, self.around, self.schedule, self.learner.rng,
            lambda paths: self.describe(paths, "mining"),
        )  # fmt: skip
        self.journal.say(f"mined {len(triplets)} triplets for {len(queries)} queries")
        return triplets

    def descend(self, triplets: Array) -> None:
        """The remaining steps of one portion."""
        run, batch = self.learner.run, self.schedule.batch
        rate = self.schedule.learning_rate_at(run.epoch)
        for group in self.learner.optimiser.param_groups:
            group["lr"] = rate
        while run.batch * batch < len(triplets):
            loss = self.step(triplets[run.batch * batch :][:batch])
            run.batch, run.step = run.batch + 1, run.step + 1
            run.recent = [*run.recent, loss][-100:]
            check_loss(run.recent, self.schedule.margin)
            self.progress("training", run.batch, -(-len(triplets) // batch))
            if run.step % LOGGED_EVERY == 0:
                self.journal.steps(rate, float(np.mean(run.recent[-LOGGED_EVERY:])))
            if run.step % self.saved_every == 0:
                self.save()

    def step(self, rows: Array) -> float:
        """One step on the triplets ``rows`` (n, 2 + negatives); returns the loss before it."""
        learner = self.learner
        learner.optimiser.zero_grad()
        loss = self.backward(rows)
        learner.scaler.step(learner.optimiser)
        learner.scaler.update()
        return loss

    def backward(self, rows: Array) -> float:
        """Gradients of the loss over the triplets ``rows``, shared by all processes."""
        processes = self.processes
        own = rows[processes.rank :: processes.count]
        idle = not len(own)  # fewer queries than processes: take part, with no weight
        own = rows[:1] if idle else own
        paths = [
            path
            for query, *others in own.tolist()
            for path in (
                self.data.queries.paths[query], *(self.data.database.paths[n] for n in others)
            )
        ]  # fmt: skip
        loss = triplet_loss(self.parallel(self._frozen(paths)), len(own), self.schedule.margin)
        loss = (0.0 if idle else 1.0) * loss / (len(rows) * self.schedule.negatives)
        # DistributedDataParallel takes the mean over processes; the batch's loss is their sum.
        self.learner.scaler.scale(loss * processes.count).backward()  # type: ignore[no-untyped-call]
        losses = processes.together(np.array([[loss.item()]], np.float32), processes.count)
        return float(losses.sum())

    def describe(self, paths: Sequence[Path], stage: str) -> Array:
        """Global vectors (n, K * 512) float32 of photos, by the network as it is now."""
        own = self.processes.share(paths)
        network = self.learner.network
        rows = np.zeros((len(own), network.pool.centroids.numel()), np.float32)
        for first in range(0, len(own), DESCRIBED_AT_ONCE):
            some = own[first : first + DESCRIBED_AT_ONCE]
            with torch.inference_mode():
                rows[first : first + len(some)] = network(self._frozen(some)).cpu().numpy()
            self.progress(f"describing photos for {stage}", first + len(some), len(own))
        return self.processes.together(rows, len(paths))

    def validate(self) -> None:
        """Recall, and whether it is the best so far; then a checkpoint, at the end of an epoch."""
        run, schedule = self.learner.run, self.schedule
        if self.validation:
            found = validate(self.validation, lambda paths: self.describe(paths, "validation"))
            self.journal.validated(schedule.learning_rate_at(run.epoch), found)
            score = (found[f"recall@{schedule.best_by}"], found["recall@1"])
            run.not_improved = 0 if score > run.best else run.not_improved + 1
            if score > run.best:
                run.best, run.best_epoch = score, run.epoch
                if self.processes.first:
                    save_best(self.out, self.learner.network)
        run.validated = True
        self.save()

    def save(self) -> None:
        """Write the checkpoint, from the first process."""
        self.journal.clock()
        if self.processes.first:
            save_checkpoint(self.out, self.learner, self.basis)

    def finish(self, trunk: VGG16, weights: tuple[str, str]) -> Path:
        """The PCA on the best network, and the model file."""
        run = self.learner.run
        self.processes.wait()
        if self.validation:
            load_best(self.out, self.learner.network)
        vectors = pca_vectors(self.data, self.schedule, lambda p: self.describe(p, "the PCA"))
        epoch = run.best_epoch if self.validation else run.epoch
        origin = Origin(
            f"vgg16 trained on {self.data.name}",
            f"{len(self.data.queries)} queries and {len(self.data.database)} database photos of "
            f"{self.data.name}, epoch {epoch}",
            *weights,
        )
        model = trained_model(self.learner.network, trunk, vectors, self.schedule, origin)
        if self.processes.first:
            write_model(model, self.out)
        self.processes.wait()
        return self.out / MODEL

    def _frozen(self, paths: Sequence[Path]) -> torch.Tensor:
        batch = torch.from_numpy(self.features.batch(paths))
        return batch.to(self.processes.device).permute(0, 3, 1, 2)


def begin(
    data: TrainingSet, out: Path, schedule: Schedule, trunk: VGG16,
    validation: Sequence[Search], options: Options, processes: Processes,
    say: Say = lambda _: None, progress: Progress = no_progress,
) -> Session:  # fmt: skip
    """Everything that the loop needs, at its start or where a checkpoint left it."""
    resumed = (out / CHECKPOINT).is_file()
    if resumed and not options.resume:
        raise UsageError(f"{out}: it holds a run already; --resume goes on, or take another folder")
    if schedule.precision == "fp16" and not processes.device.startswith("cuda"):
        raise UsageError("precision fp16: needs --device cuda; bf16 and float32 work everywhere")
    vocabulary, shape = options.vocabulary, (schedule.clusters, trunk.channels)
    if vocabulary is not None and vocabulary.centres.shape != shape:
        raise UsageError(f"clusters {shape}: the given model has {vocabulary.centres.shape}")
    around = surroundings(data, schedule)
    check_pools(data, around, schedule)
    torch.manual_seed(schedule.seed)
    features = FrozenFeatures(
        trunk, schedule.image_size, cached=options.cached, threads=options.threads,
        device=processes.device,
    )  # fmt: skip
    features.check_room(len({*data.queries.paths, *data.database.paths}))
    check_clusters(data.database, features.shape[0] * features.shape[1], schedule.clusters)
    try:
        out.mkdir(parents=True, exist_ok=True)  # nothing that was asked for is wrong
    except OSError as error:
        raise NoRoom(out, error.strerror or str(error)) from error
    encoder = conv5(trunk.state).to(processes.device)
    if vocabulary is None and resumed:  # the checkpoint has the values, here only shapes count
        vocabulary = Vocabulary(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    if vocabulary is None:
        vocabulary = start_vocabulary(
            data.database, features, encoder, schedule.clusters, schedule.seed,
            lambda done, total: progress("reading photos for the clusters", done, total),
        )  # fmt: skip
    network = Network(encoder, vocabulary, schedule.precision).to(processes.device)
    learner, basis = _learner(network, schedule), Basis(schedule, data.digest, trunk.sha256)
    if resumed:
        load_checkpoint(out, learner, basis)
    return Session(
        data=data, around=around, out=out, schedule=schedule, validation=validation,
        features=features, processes=processes, learner=learner, basis=basis,
        parallel=_parallel(network, processes),
        journal=Journal(out if processes.first else None, learner.run, say),
        saved_every=options.saved_every, progress=progress if processes.first else no_progress,
    )  # fmt: skip


def _learner(network: Network, schedule: Schedule) -> Learner:
    optimiser = torch.optim.SGD(
        network.parameters(), lr=schedule.learning_rate, momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )  # fmt: skip
    scaler = torch.amp.GradScaler("cuda", enabled=schedule.precision == "fp16")
    return Learner(network, optimiser, scaler, np.random.default_rng(schedule.seed))


def _parallel(network: Network, processes: Processes) -> nn.Module:
    if processes.count == 1:
        return network
    gpus = [torch.device(processes.device)] if processes.device.startswith("cuda") else None
    return DistributedDataParallel(network, device_ids=gpus)
