"""The frame batcher: frames of many clips fill one encoder batch, fairly, without padding on a CPU and without a timer.

Each clip has a lease and hands in chunks. Whoever has a free executor takes a batch of what waits, of whichever clips
the policy of `service.fairness` names, copies it from shared memory into the executor's own buffer (the one copy),
runs the encoder and scatters the features back. Idle: a frame is dispatched at once.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from service.bundle import GPU_RUNTIMES
from service.engine.batch_sizes import BatchSizes
from service.engine.chunks import Batch, Chunk, Encoded, Features, Frames, Part
from service.engine.lease import Lease
from service.engine.sessions import DeviceLost, Encoder
from service.errors import EngineFailed, EngineLost, ReelserveError
from service.fairness import SHARES, Account, Fair, Priority, TokenBucket, Turn
from service.give_way import give_way
from service.metrics import BATCH_FRAMES, BATCHES_RETRIED, ENGINE_IDLE_SECONDS, PADDED_FRAMES

log = logging.getLogger(__name__)

# Clips of fewer frames than this are alike to the policy: they go first come, first served.
SHORT_FRAMES = 64
# What comes finds a batch of long or job work in its way for no longer than this.
_LONG_BATCH_SECONDS = 0.015
# On a core; of jobs alone.
_JOB_BATCH_SECONDS = 0.008
# What jobs had while nobody waited counts against them up to this, or they would starve after a quiet hour.
_JOB_DEBT_SECONDS = 1.0
_JOB_LATE_SECONDS = 0.02  # a turn of theirs waits for a batch of others to end
_NO_FRAMES = np.empty((0, 0, 0, 3), np.uint8)


class FrameBatcher:
    """One thread for each encoder. lost: called once when the device is in an error that only a new process mends."""

    def __init__(
        self,
        encoders: Sequence[Encoder],
        sizes: BatchSizes,
        *,
        lost: Callable[[EngineLost], None] = lambda error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._are_cores = encoders[0].runtime not in GPU_RUNTIMES
        self.sizes = sizes
        self.feature_size = encoders[0].feature_size
        self.frame_shape = encoders[0].buffer.shape[1:]
        self._lost = lost
        self._long_frames = sizes.within(_LONG_BATCH_SECONDS)
        self._job_frames = sizes.within(_JOB_BATCH_SECONDS)
        self._fair = Fair(unit=1.0, base=SHORT_FRAMES)
        self._changed = threading.Condition()
        self._leases: dict[Account, Lease] = {}  # those that have frames waiting
        self._num_open = 0
        self._present: set[Account] = set()  # of those that are open, those that are no job's
        self._ration = TokenBucket(SHARES[Priority.JOB] * len(encoders), _JOB_DEBT_SECONDS, _JOB_LATE_SECONDS, clock)
        self._open_since = 0.0
        self._num_idle = 0
        self._failure: EngineLost | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, args=(encoder,), name=f"encoder-{i}", daemon=True)
            for i, encoder in enumerate(encoders)
        ]
        for thread in self._threads:
            thread.start()

    def lease(self, priority: Priority = Priority.INTERACTIVE) -> Lease:
        """For one clip; enter it, and leave it whatever happens."""
        with self._changed:
            if self._num_open == 0:
                self._open_since = time.monotonic()
            self._num_open += 1
            lease = Lease(self, self._fair.account(priority))
            if priority is not Priority.JOB:
                self._present.add(lease.account)
            return lease

    def waiting_frames(self) -> dict[Priority, int]:
        """Frames handed in and not yet in a batch."""
        waiting = dict.fromkeys(Priority, 0)
        with self._changed:
            for account, lease in self._leases.items():
                waiting[account.priority] += lease.num_waiting
        return waiting

    def close(self) -> None:
        """Finish what is queued, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _submit(self, lease: Lease, frames: Frames, copied: Callable[[], None]) -> Future[Encoded]:
        chunk = Chunk(lease, frames, np.empty((len(frames), self.feature_size), np.float32), copied)
        with self._changed:
            if self._closed:
                raise RuntimeError("the frame batcher is closed")
            if self._failure:
                raise self._failure
            lease.chunks.append(chunk)
            self._leases[lease.account] = lease
            self._changed.notify(len(frames))
        return chunk.future

    def _withdraw(self, lease: Lease) -> None:
        with self._changed:
            self._num_open -= 1
            self._present.discard(lease.account)
            self._changed.notify_all()  # jobs may have waited for its end
            self._leases.pop(lease.account, None)
            for chunk in lease.chunks:
                chunk.future.cancel()
            lease.chunks.clear()

    def _take(self) -> Batch | None:
        """What to run next; None when closed and done."""
        with self._changed:
            self._num_idle += 1
            while not (served := self._served()) and not self._closed:
                since, starved = time.monotonic(), not self._leases
                self._changed.wait(None if starved else self._ration.wait_seconds())
                if self._num_open and starved:  # clips are there, and their decoding is behind
                    ENGINE_IDLE_SECONDS.inc(time.monotonic() - max(since, self._open_since))
            idle, self._num_idle = self._num_idle, self._num_idle - 1
            return self._fill(served, idle) if served else None

    def _served(self) -> dict[Account, Lease]:
        """Under the lock: of those that have frames waiting, those that the next batch may be of.

        On cores jobs stay away while a short clip is open, also while its frames are yet to be decoded: a batch of
        theirs would be in its way, and so would their frames in its batches. A tenth of the time is theirs even then.
        """
        if not self._are_cores or self._closed or all(map(self._is_long, self._present)):
            return dict(self._leases)
        of_jobs = self._ration.wait_seconds() <= 0 and any(a.priority is Priority.JOB for a in self._leases)
        return {a: lease for a, lease in self._leases.items() if (a.priority is Priority.JOB) == of_jobs}

    def _fill(self, served: dict[Account, Lease], num_idle: int) -> Batch:
        """Under the lock. Idle cores share what waits: two batches of two are done sooner than one of four."""
        waiting = sum(lease.num_waiting for lease in served.values())
        room = math.ceil(waiting / num_idle) if self._are_cores else waiting
        if all(map(self._is_long, served)):
            of_jobs = all(account.priority is Priority.JOB for account in served)
            room = min(room, self._job_frames if self._are_cores and of_jobs else self._long_frames)
        size = self.sizes.best(room)
        parts: list[Part] = []
        now, at = time.perf_counter(), 0
        while at < size and served:
            turn = self._fair.choose(served)
            part = self._part(turn, at, size - at, now)
            self._fair.charge(turn, part.rows, served)
            if turn.account not in self._leases:
                del served[turn.account]
            parts.append(part)
            at += part.rows
        batch = Batch(parts, size)
        if batch.is_of_jobs:
            self._ration.take(self.sizes.seconds[size])
        return batch

    def _part(self, turn: Turn, at: int, room: int, now: float) -> Part:
        lease = self._leases[turn.account]
        chunk = lease.chunks[0]
        start = chunk.num_taken
        chunk.num_taken = min(len(chunk.features), start + room)
        chunk.taken = now
        part = Part(chunk, start, chunk.num_taken, at)
        if chunk.num_taken == len(chunk.features):
            lease.chunks.popleft()
            if not lease.chunks:
                del self._leases[turn.account]
        return part

    def _is_long(self, account: Account) -> bool:
        return account.priority is Priority.JOB or account.attained >= SHORT_FRAMES

    def _serve(self, encoder: Encoder) -> None:
        give_way()
        while batch := self._take():
            self._run(encoder, batch)
            del batch  # or an idle thread would keep the features of its last one

    def _run(self, encoder: Encoder, batch: Batch) -> None:
        parts = [part for part in batch.parts if self._copy(encoder, part)]
        if not parts:
            return
        num_frames = sum(part.rows for part in parts)
        try:
            features, seconds = self.sizes.encode(encoder, batch.size)
        except DeviceLost as error:
            self._lose(error)
            self._fail(parts, self._failure)
        except Exception as error:  # noqa: BLE001  (whatever a runtime raises must reach the clips)
            log.warning("a batch of %d frames of %d clips failed: %s", num_frames, len(parts), error)
            self._retry(encoder, parts)
        else:
            BATCH_FRAMES.observe(num_frames)
            PADDED_FRAMES.inc(batch.size - num_frames)
            wrong = [
                part for part in parts
                if not self._finish(part, features[part.at : part.at + part.rows], seconds * part.rows / num_frames)
            ]  # fmt: skip
            if wrong:
                log.warning("features of %d of %d clips in a batch are not finite", len(wrong), len(parts))
                self._retry(encoder, wrong)

    def _copy(self, encoder: Encoder, part: Part) -> bool:
        """Whether the part's frames are in the buffer; they may be of another size than the encoder's."""
        chunk = part.chunk
        try:
            encoder.buffer[part.at : part.at + part.rows] = chunk.frames[part.start : part.stop]
        except ValueError as error:
            self._fail(
                [part], EngineFailed(f"the clip's frames don't fit the encoder: {error}; export the model again")
            )
            return False
        with self._changed:  # two executors may hold parts of one chunk
            chunk.num_copied += part.rows
            complete = chunk.num_copied == len(chunk.features)
        if complete:
            chunk.frames = _NO_FRAMES
            chunk.copied()
        return True

    def _retry(self, encoder: Encoder, parts: Sequence[Part]) -> None:
        """Each part once alone: a bad clip must not fail its neighbours, and a passing fault need fail nobody."""
        BATCHES_RETRIED.inc()
        for part in parts:
            # In order, and downwards: no row is overwritten before its own turn.
            encoder.buffer[: part.rows] = encoder.buffer[part.at : part.at + part.rows]
            try:
                features, seconds = self.sizes.encode(encoder, self.sizes.at_least(part.rows))
            except DeviceLost as error:
                self._lose(error)
                self._fail([part], self._failure)
            except Exception:
                log.exception("a clip of which %d frames were alone in a batch failed again", part.rows)
                self._fail([part], EngineFailed("the encoder failed on this clip, twice; the log has the reason"))
            else:
                if not self._finish(part, features[: part.rows], seconds):
                    self._fail(
                        [part], EngineFailed("the encoder twice gave no finite features for this clip; is it float16?")
                    )

    def _finish(self, part: Part, features: Features, encode_seconds: float) -> bool:
        """Give a clip its features; False where they are not finite."""
        chunk = part.chunk
        if not np.isfinite(features).all():
            return False
        chunk.features[part.start : part.stop] = features
        with self._changed:
            chunk.num_done += part.rows
            chunk.encode_seconds += encode_seconds
            complete = chunk.num_done == len(chunk.features)
        if complete and self._settle(chunk):
            chunk.future.set_result(Encoded(chunk.features, chunk.submitted, chunk.taken, chunk.encode_seconds))
        return True

    def _fail(self, parts: Sequence[Part], error: ReelserveError | None) -> None:
        """The clips of these parts get the error; what else waits of them is taken out."""
        chunks = {part.chunk for part in parts}
        with self._changed:
            for lease in {chunk.lease for chunk in chunks}:
                self._leases.pop(lease.account, None)
                chunks.update(lease.chunks)
                lease.chunks.clear()
        for chunk in chunks:
            if self._settle(chunk):
                chunk.future.set_exception(error)

    def _settle(self, chunk: Chunk) -> bool:
        """Whether the caller is the first who may answer, and somebody still wants it."""
        with self._changed:
            first, chunk.settled = not chunk.settled, True
        return first and chunk.future.set_running_or_notify_cancel()

    def _lose(self, error: DeviceLost) -> None:
        """Nothing more runs here: fail all that waits, and say so once."""
        with self._changed:
            first = self._failure is None
            self._failure = self._failure or EngineLost(
                f"the device of the encoder is lost ({error}); this process ends, another takes its place; try again"
            )
            waiting = [Part(chunk, 0, 0, 0) for lease in self._leases.values() for chunk in lease.chunks]
        self._fail(waiting, self._failure)
        if first:
            log.critical("%s", self._failure.detail)
            self._lost(self._failure)
