"""The invariance training: teach a trunk on photos without labels that night is day.

``train_invariance`` is the recipe, and ``adapt`` its short form for one's own photos.

Two views of each photo are cut out, and a copy of the trunk, the student, learns two things. Where
the views show the same place, the feature of the night view becomes the feature that the frozen
trunk, the teacher, has of the clean view. And the features of clean views stay the teacher's. Both
are cosines. The result is a mixture of the weights before and after, and it is written only if it
finds more than the trunk before (``judge``).

The photos, the schedule and the seed decide a run. On a CPU with the same number of threads they
give the same bits, even if the run is killed and resumed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from placerec.device import convolutions_in
from placerec.errors import NotFound, PhotoError, TrainingFailed, UsageError
from placerec.evaluation.dataset import Search
from placerec.files import AnyPath, atomic_write, new_file, path_of
from placerec.schedule import ADAPT, HALF_SIZE, INVARIANCE, InvarianceSchedule
from placerec.training import checkpoint
from placerec.training.journal import Journal
from placerec.training.judge import Question, Score, held_back, judge, labelled, still_readable
from placerec.training.model import TERMS
from placerec.training.processes import joined_processes
from placerec.training.run_folder import (
    DEFAULT_OPTIONS,
    LOGGED_EVERY,
    RECENT,
    TRUNK,
    Options,
    holds_run,
    make_folder,
)
from placerec.training.trainable import TrainableTrunk
from placerec.training.unlabelled import (
    TrunkStart,
    Unlabelled,
    not_usable,
    read_images,
    read_unlabelled,
    starting_trunk,
)
from placerec.training.validation import check_finite
from placerec.training.views import Views, grid, places_in
from placerec.version import __version__
from placerec.workers import single_threaded_blas

COLUMNS = (
    "step", "seconds", "learning_rate", "loss", "kept", "invariant", "held_back", "share",
    "recall@1", "reciprocal_rank",
)  # fmt: skip
HELD_BACK_EVERY = 50  # steps between two losses of photos held back
HELD_BACK_PHOTOS = 64  # at most, for this loss
INSIDE = 0.95  # places nearer to the border of a view are left out; its features see the padding

Tensor = torch.Tensor
Images = torch.Tensor  # (n, 3, height, width) in 0..1


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: the file, and what the trunk finds ``before`` and ``after``.

    ``share`` is that of the trained weights in the result. ``queries`` is the number of queries of
    the judgement. ``skipped`` are the photos that were not used.
    """

    path: Path
    share: float
    before: Score
    after: Score
    queries: int
    skipped: tuple[PhotoError, ...] = ()


def schedule_for(device: str, schedule: InvarianceSchedule = INVARIANCE) -> InvarianceSchedule:
    """Return ``schedule`` for a device: with views of half the size on a CPU."""
    return schedule if device.startswith("cuda") else schedule.replace(image_size=HALF_SIZE)


def train_invariance(
    photos: AnyPath,
    out: AnyPath,
    schedule: InvarianceSchedule | None = None,
    start: TrunkStart | None = None,
    options: Options = DEFAULT_OPTIONS,
    validation: Sequence[Search] = (),
) -> Trained:
    """Train a trunk on the photos below ``photos`` into the folder ``out``: ``trunk.onnx`` in it.

    ``schedule`` is by default that of the device, ``start`` the trunk that ships in the package.
    The share of the trained weights is chosen by ``validation``; without it, it is that of the
    schedule, and photos held back compare the result with the start. Raises ``TrainingFailed`` with
    both figures, and writes no trunk, if the result does not find more than the start.
    """
    out = path_of(out)
    schedule = schedule or schedule_for(options.runtime.device)
    with _prepared(options, schedule):
        start = start or starting_trunk()
        holds_run(out, options)
        start.try_out(schedule)
        questions = labelled(validation, schedule.judged_size) if validation else []
        unlabelled = read_unlabelled(photos, schedule, options.runtime)
        session = Session(unlabelled, out, schedule, start, options, questions)
        with closing(session.journal):
            session.run_steps()
            trained, data = session.best_mixture(out / TRUNK)
        with atomic_write(out / TRUNK) as partial:
            partial.write_bytes(data)
        return trained


def adapt(
    model: str | Path,
    photos: AnyPath,
    out: AnyPath,
    schedule: InvarianceSchedule | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> Trained:
    """Train the trunk ``model`` on one's own ``photos``, shortly, into the new ONNX file ``out``.

    ``model`` is ``auto`` or an ``.onnx`` file. Photos that are held back compare the trunk before
    and after. Raises ``TrainingFailed`` with both figures, and writes nothing, if it does not find
    more than before. ``options.resume`` has no effect.
    """
    out = path_of(out)
    if os.path.lexists(out) or out.suffix.lower() != ".onnx":
        raise UsageError(f"{out}: name a new file that ends in .onnx")
    schedule = schedule or schedule_for(options.runtime.device, ADAPT)
    with _prepared(options, schedule), tempfile.TemporaryDirectory(prefix="placerec-") as folder:
        start = starting_trunk(model)
        start.try_out(schedule)
        unlabelled = read_unlabelled(photos, schedule, options.runtime)
        session = Session(unlabelled, Path(folder), schedule, start, options)
        with closing(session.journal):
            session.run_steps()
            trained, data = session.best_mixture(out)
        with new_file(out) as partial:
            partial.write_bytes(data)
        return trained


class Session:
    """One training: its photos, and the state that its steps change (``learner``).

    Without ``questions`` the photos held back ask. If the folder ``out`` holds a checkpoint, the
    session continues from there.
    """

    def __init__(
        self, photos: Unlabelled, out: Path, schedule: InvarianceSchedule, start: TrunkStart,
        options: Options, questions: Sequence[Question] = (),
    ) -> None:  # fmt: skip
        self.shares = schedule.shares if questions else (schedule.share,)
        self.questions = questions or held_back(photos, schedule)
        self.photos, self.out, self.schedule, self.start = photos, out, schedule, start
        self.runtime, self.saved_every = options.runtime, options.saved_every
        self.lost: dict[Path, PhotoError] = {}  # photos that vanished or broke in this process
        self.device = torch.device(options.runtime.device)
        self.teacher = self._network().requires_grad_(False)
        student = self._network()
        optimiser = torch.optim.Adam(student.groups(schedule.learning_rate))
        self.rates = [group["lr"] for group in optimiser.param_groups]
        self.learner = checkpoint.Learner(
            schedule, photos.sha256, start.sha256, student, optimiser,
            torch.amp.GradScaler("cuda", enabled=False), np.random.default_rng(schedule.seed),
            checkpoint.InvarianceRun(),
        )  # fmt: skip
        resumed = holds_run(out, options)
        make_folder(out)
        if resumed:
            checkpoint.load(out, self.learner)
        else:
            checkpoint.save(out, self.learner)
        self.journal = Journal(out, self.learner.run, options.say, COLUMNS)

    def run_steps(self) -> None:
        """Run the loop. All its state is in ``learner``, so a resumed run enters anywhere."""
        run, schedule = self.learner.run, self.schedule
        if not run.rows:
            (score,) = self.judged(0.0)
            run.before = score.recall, score.reciprocal
            self.log_held_back()
        while run.step < schedule.steps:
            run.recent = [*run.recent, self.step()][-RECENT:]
            run.step += 1
            self.runtime.progress("training", run.step, schedule.steps)
            if run.step % LOGGED_EVERY == 0:
                self.log_steps()
            if run.step % HELD_BACK_EVERY == 0 or run.step == schedule.steps:
                self.log_held_back()
            if run.step % self.saved_every == 0 or run.step == schedule.steps:
                self.journal.clock()
                checkpoint.save(self.out, self.learner)

    def step(self) -> tuple[float, float]:
        """Take one step; return the two parts of the loss before it."""
        learner, schedule = self.learner, self.schedule
        count = len(self.photos.trained)
        rows = learner.rng.choice(count, min(schedule.batch, count), replace=False)
        seed = int(learner.rng.integers(2**62))
        kept, invariant = self.losses(self._images([self.photos.trained[n] for n in rows]), seed)
        loss = schedule.keep * kept + invariant
        check_finite(loss.item())
        learner.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learner.network.parameters(), schedule.clip)
        share = schedule.learning_rate_at(learner.run.step)
        for group, rate in zip(learner.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = share * rate
        learner.optimiser.step()
        return kept.item(), invariant.item()

    def losses(self, photos: Images, seed: int) -> tuple[Tensor, Tensor]:
        """Return how far the student is from the teacher in clean views, and in night views.

        Each is the mean of 1 - cosine over cells: 0 is perfect.
        """
        schedule, count = self.schedule, len(photos)
        views = Views(schedule.image_size, schedule, torch.Generator(self.device).manual_seed(seed))
        clean = views.quadrilaterals(count, schedule.clean_side)
        night = views.quadrilaterals(count, schedule.night_side)
        seen = views.cut(photos, clean)
        changed = torch.cat((views.mild(seen), views.night(views.cut(photos, night))))
        with torch.no_grad():
            wanted = self._features(self.teacher, seen)
        features = self._features(self.learner.network, changed)
        by_day, by_night = features[:count], features[count:]
        kept = 1 - functional.cosine_similarity(by_day, wanted, dim=1)
        places = places_in(clean, night, grid(wanted.shape[2:], self.device))
        there = functional.grid_sample(by_night, places[:, None], align_corners=False)[:, :, 0]
        apart = 1 - functional.cosine_similarity(there, wanted.flatten(2), dim=1)
        inside = (places.abs() < INSIDE).all(2)
        return kept.mean(), (apart * inside).sum() / inside.sum().clamp(min=1)

    def log_steps(self) -> None:
        """Log the mean losses of the last steps."""
        run = self.learner.run
        kept, invariant = np.mean(run.recent[-LOGGED_EVERY:], axis=0).tolist()
        loss = self.schedule.keep * kept + invariant
        rate = self.schedule.learning_rate * self.schedule.learning_rate_at(run.step)
        values = {"learning_rate": rate, "loss": loss, "kept": kept, "invariant": invariant}
        self.journal.row(values, f"step {run.step}: loss {loss:.4f}, night views {invariant:.4f}")

    def log_held_back(self) -> None:
        """Log the loss of photos held back; their views are the same every time."""
        paths, batch = self.photos.held_back[:HELD_BACK_PHOTOS], self.schedule.batch
        parts, count = np.zeros(2), 0
        for first in range(0, len(paths), batch):
            images = self._images(paths[first : first + batch])
            with torch.inference_mode():
                losses = self.losses(images, self.schedule.seed + first)
            parts += [len(images) * part.item() for part in losses]
            count += len(images)
        kept, invariant = (parts / count).tolist()
        loss = self.schedule.keep * kept + invariant
        check_finite(loss)
        values = {"kept": kept, "invariant": invariant, "held_back": loss}
        message = f"photos held back: loss {loss:.4f}, night views {invariant:.4f}"
        self.journal.row(values, f"step {self.learner.run.step}: {message}")

    def judged(self, *shares: float) -> list[Score]:
        """Log and return what the mixtures with these shares of the student find.

        If a photo of the judgement has vanished or broken, all are judged again without it.
        """
        try:
            return [self._judged(share) for share in shares]
        except (NotFound, PhotoError):
            self.questions, lost = still_readable(self.questions, self.schedule.judged_size)
            if not lost:
                raise
            self._skip(lost)
        return self.judged(*shares)

    def _judged(self, share: float) -> Score:
        trunk = self.start.opened(self._mixture(share), self.runtime)
        size, stage = self.schedule.judged_size, f"judging the share {share:g}"
        score = judge(trunk, self.questions, size, self.runtime, stage)
        values = {"share": share, "recall@1": score.recall, "reciprocal_rank": score.reciprocal}
        self.journal.row(values, f"share {share:g} of the trained weights: {score}")
        return score

    def best_mixture(self, path: Path) -> tuple[Trained, bytes]:
        """Return the mixture of start and student that finds most, as an ONNX file for ``path``.

        Raises ``TrainingFailed`` if none finds more than the start.
        """
        before, questions = Score(*self.learner.run.before), self.questions
        results = self.judged(*self.shares)
        if self.questions is not questions:  # photos vanished or broke since the start was judged
            before, *results = self.judged(0.0, *self.shares)
        scores = dict(zip(self.shares, results, strict=True))
        best = max(scores, key=lambda share: (scores[share], -share))
        queries = sum(len(question.queries) for question in self.questions)
        if scores[best] <= before:
            raise TrainingFailed(
                f"{path}: not written, because the trained trunk is no better: {scores[best]}, and "
                f"before {before}, of {queries} queries{not_usable(self.photos.skipped)}; keep the "
                f"trunk, or give more photos"
            )
        skipped = *self.photos.skipped, *self.lost.values()
        trained = Trained(path, best, before, scores[best], queries, skipped)
        return trained, self._mixture(best, self._header(best))

    def _mixture(self, share: float, header: dict[str, object] | None = None) -> bytes:
        pairs = zip(self.teacher.arrays(), self.learner.network.arrays(), strict=True)
        arrays = [(1 - share) * before + share * after for before, after in pairs]
        return self.teacher.encoded(arrays, header)

    def _header(self, share: float) -> dict[str, object]:
        start, photos = self.start, self.photos
        return {
            "mean": start.mean, "std": start.std,
            "training_data": f"{len(photos.trained)} photos of {photos.name}, without labels, "
            f"recipe {self.schedule.recipe}, {self.schedule.steps} steps, share {share:g}",
            "provenance": f"trained by placerec {__version__} from {start.name}, sha256 "
            f"{start.sha256}",
            "licence": start.licence.removesuffix(TERMS) + TERMS,
        }  # fmt: skip

    def _network(self) -> TrainableTrunk:
        network = TrainableTrunk(self.start.data, self.start.name).to(self.device)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _features(self, network: TrainableTrunk, images: Images) -> Tensor:
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None] / 255
            for values in (self.start.mean, self.start.std)
        )
        images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        half = self.schedule.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            features: Tensor = network(images)
        return features.float()

    def _images(self, paths: Sequence[Path]) -> Images:
        """Return the photos that can still be read; report each other one once."""
        images, skipped = read_images(paths, self.schedule.image_size, self.runtime.cores)
        self._skip(skipped)
        return torch.from_numpy(images).to(self.device)

    def _skip(self, photos: Sequence[PhotoError]) -> None:
        """Report each photo once."""
        for error in photos:
            if error.path not in self.lost:
                self.lost[error.path] = error
                self.journal.say(f"skipped {error}")


@contextmanager
def _prepared(options: Options, schedule: InvarianceSchedule) -> Iterator[None]:
    """Set threads and precision for a training in one process; check the device."""
    runtime = options.runtime
    if schedule.precision == "tf32" and not runtime.on_gpu:
        raise UsageError("precision tf32: needs device cuda; bf16 and float32 run everywhere")
    torch.set_num_threads(runtime.cores)
    with (
        joined_processes(runtime.device) as processes,
        single_threaded_blas(),
        convolutions_in(schedule.precision),
    ):
        if processes.count > 1:
            raise UsageError(f"recipe {schedule.recipe}: it runs in one process, not in several")
        yield
