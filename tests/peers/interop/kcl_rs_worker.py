"""A worker of LocalStack's kcl-rs, which is a KCL 3.x: kcl_rs_worker.py STREAM APP WORKER JOURNAL FAILOVER_MS

Addresses come from the environment. Its failover cannot be set: it is the library's default, ten seconds. The journal is
that of Journal.java. Runs until SIGTERM.
"""

import os
import signal
import sys
import threading
import time

# Metrics go where nothing listens: the worker tries again in the background and does its work all the same.
os.environ.setdefault("AWS_ENDPOINT_URL_CLOUDWATCH", "http://127.0.0.1:9")
from kcl_rs import CheckpointError, Scheduler  # noqa: E402  reads the environment as it is imported

FAILOVER_MS = "10000"
CHECKPOINT_SECONDS = 1


class Journal:
    def __init__(self, path, worker):
        self.file, self.worker, self.lock = open(path, "a"), worker, threading.Lock()

    def lines(self, rows):
        now = round(time.time() * 1000)
        text = "".join(f"{now}\t{self.worker}\t{what}\t{shard}\t{seq}\t{sub}\n" for what, shard, seq, sub in rows)
        with self.lock:
            self.file.write(text)
            self.file.flush()


class Processor:
    def __init__(self, journal):
        self.journal = journal
        self.last, self.checkpointed = None, time.monotonic()

    def initialize(self, start):
        self.shard = start.shard_id
        at = (start.sequence_number or "TRIM_HORIZON", start.sub_sequence_number or 0)
        self.journal.lines([("gained", self.shard, *at)])

    def process_records(self, batch):
        rows = [("record", self.shard, r.sequence_number, r.sub_sequence_number) for r in batch.records]
        if rows:
            self.journal.lines(rows)
            self.last = rows[-1][2:]
        if self.last and time.monotonic() - self.checkpointed >= CHECKPOINT_SECONDS:
            self.checkpoint(batch.checkpointer, *self.last)

    def checkpoint(self, checkpointer, sequence, sub_sequence):
        try:
            # Without a position: the last one delivered, which at the end of a shard is its end.
            checkpointer.checkpoint()
        except CheckpointError:
            self.journal.lines([("refused", self.shard, sequence, sub_sequence)])
            return
        self.journal.lines([("checkpoint", self.shard, sequence, sub_sequence)])
        self.last, self.checkpointed = None, time.monotonic()

    def lease_lost(self, _):
        self.journal.lines([("lost", self.shard, "-", 0)])

    def shard_ended(self, end):
        self.checkpoint(end.checkpointer, "SHARD_END", 0)

    def shutdown_requested(self, request):
        if self.last:
            self.checkpoint(request.checkpointer, *self.last)
        self.journal.lines([("drained", self.shard, "-", 0)])


def main():
    stream, app, worker, path, failover_ms = sys.argv[1:]
    if failover_ms != FAILOVER_MS:
        sys.exit(f"kcl-rs has a failover of {FAILOVER_MS} ms, and no setting for it")
    journal = Journal(path, worker)
    scheduler = Scheduler(
        stream_name=stream,
        application_name=app,
        record_processor_factory=lambda: Processor(journal),
        worker_identifier=worker,
        region=os.environ["AWS_REGION"],
        initial_position="TRIM_HORIZON",
        retrieval_mode="POLLING",
        idle_time_between_reads_millis=250,
        shard_sync_interval_millis=1_000,
    )
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    scheduler.start()
    while not stopping.wait(0.2):
        pass
    scheduler.shutdown()


if __name__ == "__main__":
    main()
