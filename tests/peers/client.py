"""A gRPC client for the tests, made by grpcio from the .proto files alone: it shares no code with the service.

  client.py --endpoint HOST:PORT --proto DIR        (the API key is read from POSTRIDER_KEY)

Submits jobs one by one and in batches, watches their events with a watch that is cut in the middle and resumed, reads
every job back, has one recipient reply STOP, and prints one JSON object:

  {"jobs": {job_id: {"to", "fate", "reason"}}, "watched": {job_id: [fates]}, "signals", "cuts", "after_stop": {...},
   "seconds"}

What the last digits of a number mean is up to the SMSC, whose rules the caller knows:
  71 refused, 72 undelivered, 73 never answered, 99 replies STOP; all others are delivered.
"""

import argparse
import atexit
import collections
import importlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time

import grpc
from grpc_tools import protoc

ONE_BY_ONE = 1000
BATCH = 100
BATCHES = 10
WAIT_S = 180


def generate(proto: str):
    """Generates the client from the .proto files and returns its modules."""
    out = tempfile.mkdtemp(prefix="postrider-client-")
    atexit.register(shutil.rmtree, out)
    files = sorted(str(path.relative_to(proto)) for path in pathlib.Path(proto).glob("postrider/v1/*.proto"))
    include = str(pathlib.Path(importlib.import_module("grpc_tools").__file__).parent / "_proto")
    status = protoc.main(["protoc", f"-I{proto}", f"-I{include}", f"--python_out={out}", f"--grpc_python_out={out}", *files])
    if status != 0:
        sys.exit(f"protoc failed with {status}")
    sys.path.insert(0, out)
    names = ["common_pb2", "job_pb2", "job_service_pb2", "job_service_pb2_grpc", "suppression_service_pb2",
             "suppression_service_pb2_grpc"]
    return [importlib.import_module(f"postrider.v1.{name}") for name in names]


class Client:
    def __init__(self, endpoint, key, proto):
        (self.common, self.job, self.jobs, jobs_grpc, self.supp, supp_grpc) = generate(proto)
        self.channel = grpc.insecure_channel(endpoint)
        grpc.channel_ready_future(self.channel).result(timeout=30)
        self.service = jobs_grpc.JobServiceStub(self.channel)
        self.suppressions = supp_grpc.SuppressionServiceStub(self.channel)
        self.metadata = [("authorization", f"Bearer {key}")]
        self.fates = collections.defaultdict(list)
        self.signals = 0
        self.cuts = 0
        self.ended = threading.Event()
        self.started = threading.Event()

    def spec(self, text):
        return self.job.JobSpec(sms=self.job.SmsContent(text=text), **{"class": self.common.CLASS_MARKETING})

    def submit_one_by_one(self):
        """Submits jobs with one call each, 64 in flight; returns ids by number."""
        room, found = threading.Semaphore(64), {}
        calls = []
        for number in range(ONE_BY_ONE):
            to = f"+8613{number:09d}"
            room.acquire()
            request = self.jobs.SubmitRequest(
                idempotency_key=f"one-{number}",
                spec=self.spec("hello {name}"),
                recipient=self.common.Recipient(phone=to),
                params={"name": f"nr {number}"},
            )
            call = self.service.Submit.future(request, metadata=self.metadata, timeout=30)
            call.add_done_callback(lambda _: room.release())
            calls.append((to, call))
        for to, call in calls:
            found[call.result().job_id] = to
        return found

    def submit_batches(self):
        """Submits jobs in batches; returns ids by number."""
        found = {}
        for batch in range(BATCHES):
            numbers = [f"+8615{batch * BATCH + item:09d}" for item in range(BATCH)]
            request = self.jobs.SubmitBatchRequest(
                idempotency_key=f"batch-{batch}",
                spec=self.spec("sale in {city}: 50% off"),
                items=[
                    self.jobs.BatchItem(recipient=self.common.Recipient(phone=to), params={"city": "北京"})
                    for to in numbers
                ],
            )
            answer = self.service.SubmitBatch(request, metadata=self.metadata, timeout=30)
            assert answer.accepted == BATCH and answer.refused == 0, answer
            for result in answer.results:
                found[result.job_id] = numbers[result.index]
        return found

    def watch(self):
        """Collects every outcome, cutting the watch now and then and going on from its token."""
        token, seen = "", 0
        while not self.ended.is_set():
            request = self.jobs.WatchEventsRequest(resume_token=token, from_start=token == "")
            stream = self.service.WatchEvents(request, metadata=self.metadata)
            self.started.set()
            try:
                for answer in stream:
                    token = answer.resume_token
                    for event in answer.events:
                        seen += 1
                        self.note(event)
                    if self.ended.is_set() or seen > 700 * (self.cuts + 1):
                        break
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
            stream.cancel()
            self.cuts += 1

    def note(self, event):
        if event.WhichOneof("what") == "signal":
            self.signals += 1
        elif event.state_change.state == self.common.STATE_SETTLED:
            self.fates[event.job_id].append(self.fate(event.state_change.outcome))

    def fate(self, outcome):
        return self.common.Fate.Name(outcome.fate).removeprefix("FATE_").lower()

    def outcomes(self, ids):
        """Reads jobs back until each has its outcome, or the time is up."""
        found, left, deadline = {}, dict(ids), time.monotonic() + WAIT_S
        while left and time.monotonic() < deadline:
            for job_id in list(left):
                answer = self.service.GetJob(
                    self.jobs.GetJobRequest(job_id=job_id), metadata=self.metadata, timeout=30
                )
                if answer.job.state == self.common.STATE_SETTLED:
                    to = left.pop(job_id)
                    outcome = answer.job.outcome
                    found[job_id] = {"to": to, "fate": self.fate(outcome), "reason": outcome.reason}
            time.sleep(0.5)
        for job_id, to in left.items():
            job = self.service.GetJob(self.jobs.GetJobRequest(job_id=job_id), metadata=self.metadata, timeout=30).job
            history = [self.common.State.Name(event.state_change.state) for event in job.events]
            found[job_id] = {"to": to, "fate": "none", "reason": f"{self.common.State.Name(job.state)} after {history}"}
        return found

    def wait_for_opt_out(self, to):
        address = self.common.Recipient(phone=to)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            answer = self.suppressions.Check(
                self.supp.SuppressionServiceCheckRequest(address=address), metadata=self.metadata, timeout=10
            )
            if answer.suppressed:
                return True
            time.sleep(0.05)
        return False

    def after_stop(self):
        """One recipient is written to, replies STOP, and is written to again."""
        to = "+8617000000099"

        def submit(key, text):
            request = self.jobs.SubmitRequest(
                idempotency_key=key, spec=self.spec(text), recipient=self.common.Recipient(phone=to)
            )
            return self.service.Submit(request, metadata=self.metadata, timeout=30).job_id

        first = submit("stop-1", "before the stop")
        opted_out = self.wait_for_opt_out(to)
        later = [submit(f"stop-{number}", "after the stop") for number in range(2, 12)]
        return {"to": to, "opted_out": opted_out, "first": first, "later": later}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--proto", required=True)
    arguments = parser.parse_args()
    began = time.monotonic()
    client = Client(arguments.endpoint, os.environ["POSTRIDER_KEY"], arguments.proto)
    watcher = threading.Thread(target=client.watch, daemon=True)
    watcher.start()
    client.started.wait(10)

    ids = client.submit_one_by_one()
    ids.update(client.submit_batches())
    stop = client.after_stop()
    ids.update({job_id: stop["to"] for job_id in [stop["first"], *stop["later"]]})
    jobs = client.outcomes(ids)

    # The watch may lag a little behind the ledger.
    deadline = time.monotonic() + 30
    while len(client.fates) < len(ids) and time.monotonic() < deadline:
        time.sleep(0.1)
    client.ended.set()
    print(json.dumps({
        "jobs": jobs,
        "watched": client.fates,
        "signals": client.signals,
        "cuts": client.cuts,
        "after_stop": stop,
        "seconds": time.monotonic() - began,
    }))


if __name__ == "__main__":
    main()
