"""The training: draw queries, mine triplets, take steps, validate, keep the best network.

    placerec train ...                                     one process
    torchrun --nproc-per-node 4 -m placerec train ...      one process per GPU

Source: NetVLAD, CVPR 2016, section 4, with the schedule of the Patch-NetVLAD program
(``placerec.schedule``). The data, the schedule and the seed decide a run. On a CPU with the same
number of threads they give the same bits, even if the run is killed and resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from placerec.device import convolutions_in
from placerec.errors import UsageError
from placerec.evaluation.scoring.metrics import RECALL_AT
from placerec.method.vlad import Vocabulary
from placerec.models.model_file import save_model
from placerec.records import Array
from placerec.runtime import no_progress
from placerec.schedule import Schedule
from placerec.training import checkpoint
from placerec.training.datasets import TrainingSet
from placerec.training.journal import Journal
from placerec.training.mining import Miner, portions
from placerec.training.model import Start, check_amounts, start_vocabulary, trained_model
from placerec.training.network import FrozenFeatures, Network, conv5, triplet_loss
from placerec.training.processes import Processes, joined_processes
from placerec.training.run_folder import (
    DEFAULT_OPTIONS,
    LOGGED_EVERY,
    MODEL,
    RECENT,
    Options,
    holds_run,
    make_folder,
)
from placerec.training.validation import check_loss, validate
from placerec.workers import single_threaded_blas

DESCRIBED_AT_ONCE = 20  # photos; the batch size of the published caching
RECALLS = tuple(f"recall@{n}" for n in RECALL_AT)
COLUMNS = ("epoch", "step", "seconds", "learning_rate", "loss", *RECALLS)


def train(
    data: TrainingSet, out: str | Path, schedule: Schedule, start: Start,
    options: Options = DEFAULT_OPTIONS,
) -> Path:  # fmt: skip
    """Train on ``data`` into the folder ``out``, and return the path of the model file in it.

    ``start`` gives the frozen layers and the initial weights of the trained layers. Without
    validation data, all epochs run and the last network is the result.
    """
    torch.set_num_threads(options.runtime.cores)
    with (
        joined_processes(options.runtime.device) as processes,
        single_threaded_blas(),
        convolutions_in(schedule.precision),
    ):
        session = Session(data, Path(out), schedule, start, options, processes)
        with closing(session.journal):
            session.run_epochs()
            return session.finish()


class Session:
    """One training: its data, and the state that its steps change (``learner``).

    All arguments are checked before the folder ``out`` is created or read. If it holds a
    checkpoint, the session continues from there.
    """

    def __init__(
        self, data: TrainingSet, out: Path, schedule: Schedule, start: Start, options: Options,
        processes: Processes,
    ) -> None:  # fmt: skip
        self.data, self.out, self.schedule, self.start = data, out, schedule, start
        self.processes, self.saved_every = processes, options.saved_every
        self.progress = options.runtime.progress if processes.first else no_progress
        resumed = holds_run(out, options)
        self._check()
        self.miner = Miner(data, schedule)
        self.miner.check_pools()
        torch.manual_seed(schedule.seed)
        precision = "tf32" if schedule.precision == "tf32" else "float32"
        self.features = FrozenFeatures(
            start.trunk, schedule.image_size, cached=options.cached,
            runtime=replace(options.runtime, device=processes.device, precision=precision),
        )  # fmt: skip
        self.features.check_space(len({*data.queries.paths, *data.database.paths}))
        make_folder(out)
        self.learner = self._learner(self._network(resumed))
        if resumed:
            checkpoint.load(out, self.learner)
        self.parallel = processes.parallel(self.learner.network)
        if processes.first and not resumed:  # every process has looked into the folder by now
            checkpoint.save(out, self.learner)
        folder = out if processes.first else None
        self.journal = Journal(folder, self.learner.run, options.say, COLUMNS)

    def run_epochs(self) -> None:
        """Run the loop. All its state is in ``learner.run``, so a resumed run enters anywhere."""
        run, schedule = self.learner.run, self.schedule
        if not run.validated:
            self.validate()
        while run.epoch < schedule.epochs and run.not_improved <= schedule.patience:
            if not len(run.order):
                run.order = self.miner.draw_queries(self.learner.rng)
            parts = portions(run.order, schedule.portion)
            while run.portion < len(parts):
                if run.triplets is None:
                    run.triplets = self.mine(parts[run.portion])
                    self.save()
                self.train_portion(run.triplets)
                run.portion, run.triplets, run.batch = run.portion + 1, None, 0
            run.epoch, run.order, run.portion = run.epoch + 1, checkpoint.NO_QUERIES, 0
            self.validate()

    def mine(self, queries: Array) -> Array:
        """Return the triplets of one portion, mined with the current network."""
        describe = partial(self.describe, stage="mining")
        triplets = self.miner.mine(queries, self.learner.rng, describe)
        self.journal.say(f"mined {len(triplets)} triplets for {len(queries)} queries")
        return triplets

    def train_portion(self, triplets: Array) -> None:
        """Take the remaining steps of one portion."""
        run, batch = self.learner.run, self.schedule.batch
        rate = self.schedule.learning_rate_at(run.epoch)
        for group in self.learner.optimiser.param_groups:
            group["lr"] = rate
        while run.batch * batch < len(triplets):
            loss = self.step(triplets[run.batch * batch :][:batch])
            run.batch, run.step = run.batch + 1, run.step + 1
            run.recent = [*run.recent, loss][-RECENT:]
            check_loss(run.recent, self.schedule.margin)
            self.progress("training", run.batch, -(-len(triplets) // batch))
            if run.step % LOGGED_EVERY == 0:
                loss = self._recent_loss()
                values = {"epoch": run.epoch + 1, "learning_rate": rate, "loss": loss}
                message = f"epoch {run.epoch + 1}, step {run.step}: loss {loss:.4f}"
                self.journal.row(values, message)
            if run.step % self.saved_every == 0:
                self.save()

    def step(self, triplets: Array) -> float:
        """Take one step on ``triplets`` (n, 2 + negatives); return the loss before it."""
        learner = self.learner
        learner.optimiser.zero_grad()
        loss = self.backward(triplets)
        learner.scaler.step(learner.optimiser)
        learner.scaler.update()
        return loss

    def backward(self, triplets: Array) -> float:
        """Compute the gradients of the loss over ``triplets``, in all processes together."""
        processes, queries, database = self.processes, self.data.queries, self.data.database
        share = triplets[processes.share]
        idle = not len(share)  # with fewer queries than processes, join with a weight of 0
        share = triplets[:1] if idle else share
        paths = []
        for query, *rows in share.tolist():
            paths += [queries.paths[query], *(database.paths[n] for n in rows)]
        loss = triplet_loss(
            self.parallel(self.features.there(paths)), len(share), self.schedule.margin
        )
        loss = (0.0 if idle else 1.0) * loss / (len(triplets) * self.schedule.negatives)
        # DistributedDataParallel averages over processes, but the loss of a batch is their sum.
        self.learner.scaler.scale(loss * processes.count).backward()  # type: ignore[no-untyped-call]
        losses = processes.gather(np.array([[loss.item()]], np.float32), processes.count)
        return float(losses.sum())

    def describe(self, paths: Sequence[Path], stage: str) -> Array:
        """Return global vectors (n, K * 512) float32 of photos, by the current network."""
        share = paths[self.processes.share]
        network = self.learner.network
        vectors = np.zeros((len(share), network.pool.centroids.numel()), np.float32)
        for first in range(0, len(share), DESCRIBED_AT_ONCE):
            batch = share[first : first + DESCRIBED_AT_ONCE]
            done = first + len(batch)
            with torch.inference_mode():
                vectors[first:done] = network(self.features.there(batch)).cpu().numpy()
            self.progress(f"describing photos for {stage}", done, len(share))
        return self.processes.gather(vectors, len(paths))

    def validate(self) -> None:
        """Compute the recall, save the network if it is the best so far, and write a checkpoint.

        Without validation data only the loss is logged.
        """
        run, schedule = self.learner.run, self.schedule
        describe = partial(self.describe, stage="validation")
        recalls = validate(self.data.validation, describe) if self.data.validation else {}
        values = {**recalls, "loss": self._recent_loss()} if run.recent else recalls
        if values:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
            message = f"after epoch {run.epoch}, step {run.step}: {shown}"
            rate = schedule.learning_rate_at(run.epoch)
            self.journal.row({"epoch": run.epoch, "learning_rate": rate, **values}, message)
        if recalls:
            score = (recalls[f"recall@{schedule.best_by}"], recalls["recall@1"])
            run.not_improved += 1
            if score > run.best:
                run.best, run.best_epoch, run.not_improved = score, run.epoch, 0
                if self.processes.first:
                    checkpoint.save_best(self.out, self.learner.network)
        run.validated = True
        self.save()

    def _recent_loss(self) -> float:
        return float(np.mean(self.learner.run.recent[-LOGGED_EVERY:]))

    def save(self) -> None:
        """Write the checkpoint, from the first process."""
        self.journal.clock()
        if self.processes.first:
            checkpoint.save(self.out, self.learner)

    def finish(self) -> Path:
        """Fit the PCA on the best network and write the model file; return its path."""
        run, network = self.learner.run, self.learner.network
        self.processes.wait()
        if self.data.validation:
            checkpoint.load_best(self.out, network)
        epoch = run.best_epoch if self.data.validation else run.epoch
        describe = partial(self.describe, stage="the PCA")
        model = trained_model(network, self.start, describe, self.schedule, self.data, epoch)
        if self.processes.first:
            save_model(model, self.out / MODEL)
        self.processes.wait()
        return self.out / MODEL

    def _check(self) -> None:
        schedule, vocabulary = self.schedule, self.start.vocabulary
        on_gpu = self.processes.device.startswith("cuda")
        if schedule.precision in ("tf32", "fp16") and not on_gpu:
            raise UsageError(
                f"precision {schedule.precision}: needs device cuda; bf16 and float32 run on "
                f"every device"
            )
        if vocabulary is not None and len(vocabulary) != schedule.clusters:
            raise UsageError(
                f"clusters {schedule.clusters}: the model to start from has {len(vocabulary)}; "
                f"use the same number of clusters"
            )
        check_amounts(schedule, len(self.data.database))

    def _network(self, resumed: bool) -> Network:
        encoder = conv5(self.start.trunk.state).to(self.processes.device)
        vocabulary = self.start.vocabulary
        if vocabulary is None and resumed:  # the checkpoint has the values; only the shape counts
            shape = self.schedule.clusters, self.start.trunk.channels
            vocabulary = Vocabulary(*np.zeros((2, *shape), np.float32))
        if vocabulary is None:
            vocabulary = start_vocabulary(
                self.data, self.features, encoder, self.schedule, self.progress
            )
        return Network(encoder, vocabulary, self.schedule.precision).to(self.processes.device)

    def _learner(self, network: Network) -> checkpoint.Learner[Network, checkpoint.TripletRun]:
        schedule = self.schedule
        optimiser = torch.optim.SGD(
            network.parameters(), lr=schedule.learning_rate, momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
        )  # fmt: skip
        scaler = torch.amp.GradScaler("cuda", enabled=schedule.precision == "fp16")
        return checkpoint.Learner(
            schedule, self.data.digest, self.start.trunk.sha256, network, optimiser, scaler,
            np.random.default_rng(schedule.seed), checkpoint.TripletRun(),
        )  # fmt: skip
