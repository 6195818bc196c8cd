"""A tuneyard server as a host sees it: real HTTP on loopback, a dictionary for a database."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jobs.identity import Owner
from jobs.messages.reports import (
    AttemptOffsets,
    Ended,
    GpuSample,
    HostInfo,
    HostOrders,
    HostReport,
    Joined,
    Progress,
    StopOrder,
    TraceRequest,
    TraceResult,
)

TOKEN = "host-token"


class FakeServer:
    """Stores what it is told as the real one does: by key, so that telling it twice changes nothing."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.joins: list[HostInfo] = []
        self.reports: list[HostReport] = []
        self.samples: dict[tuple[str, float], GpuSample] = {}
        self.told: Counter[tuple[str, float]] = Counter()  # how often each sample came
        self.open: dict[int, AttemptOffsets] = {}
        self.logs: dict[int, bytes] = {}
        self.progress: dict[int, dict[int, Progress]] = {}
        self.ended: dict[int, Ended] = {}
        self.traces: dict[str, TraceResult] = {}
        self.stops: list[StopOrder] = []
        self.wanted_traces: list[TraceRequest] = []
        self.forget: list[int] = []
        self.drop: set[int] = set()
        self.epoch = 1
        self.answers_of: int | None = (
            None  # the epoch that answers to reports bear, if not that of the report
        )
        self.unknown: set[str] = set()  # uuids of jobs and attempts that a backup does not know
        self.ray_address: str | None = None
        self.host_id = 0
        self.yard = "0123456789abcdef0123456789abcdef"
        self.namesake: str | None = None  # why a host of this name can't join
        self.known_hosts: set[int] = set()
        self.busy_for_s: int | None = None  # what Retry-After says to every report, where it is busy
        self.asked = 0  # reports that came, taken or not
        self.token = TOKEN
        self.port = 0
        self._http: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> FakeServer:
        """Listen, on the same port every time."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = fake.answer(self.path, self.headers.get("Authorization", ""), body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", str(fake.busy_for_s))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        ThreadingHTTPServer.allow_reuse_address = True
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def down(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def open_attempt(self, attempt_id: int, job_id: int = 1, uuid: str = "") -> None:
        self.open[attempt_id] = AttemptOffsets(attempt_id=attempt_id, job_id=job_id, number=1, uuid=uuid)

    def restore(self, *unknown: str) -> None:
        """The database goes back to a backup, which does not know the jobs and attempts with these uuids."""
        with self.lock:
            self.epoch += 1
            self.unknown |= set(unknown)
            self.open = {key: one for key, one in self.open.items() if one.uuid not in unknown}
            self.known_hosts.clear()

    def answer(self, path: str, authorization: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if authorization != f"Bearer {self.token}":
            return 401, {"error": {"kind": "unauthorized", "message": "wrong token"}}
        with self.lock:
            if path == "/api/v1/hosts/join" and self.namesake is not None:
                return 409, {"error": {"kind": "conflict", "message": self.namesake}}
            if path == "/api/v1/hosts/join":
                return 200, self._join(HostInfo.model_validate_json(body))
            match = re.fullmatch(r"/api/v1/hosts/(\d+)/report", path)
            if match is None:
                return 404, {}
            self.asked += 1
            if self.busy_for_s is not None:
                return 429, {"error": {"kind": "busy", "message": "too many reports"}}
            report = HostReport.model_validate_json(body)
            if int(match[1]) not in self.known_hosts or report.epoch != self.epoch:
                return 409, {"error": {"kind": "conflict", "message": "join again"}}
            return 200, self._report(report)

    def _join(self, info: HostInfo) -> dict[str, Any]:
        self.joins.append(info)
        self.host_id += 1
        self.known_hosts.add(self.host_id)
        return Joined(
            host_id=self.host_id, ray_token="ray-token", yard=self.yard, epoch=self.epoch
        ).model_dump()

    def _report(self, report: HostReport) -> dict[str, Any]:
        self.reports.append(report)
        for sample in report.samples:
            self.told[sample.uuid, sample.ts] += 1
            self.samples.setdefault((sample.uuid, sample.ts), sample)
        for result in report.traces:
            self.traces[result.key] = result
            self.wanted_traces = [one for one in self.wanted_traces if one.key != result.key]
        for news in report.attempts:
            known = self.open.get(news.attempt_id)
            if known is None:
                continue
            data, has = news.log.encode(), self.logs.get(news.attempt_id, b"")
            assert news.log_offset <= len(has), "a gap in the log"
            self.logs[news.attempt_id] = has + data[len(has) - news.log_offset :]
            steps = self.progress.setdefault(news.attempt_id, {})
            steps.update({line.step: line for line in news.progress if line.step not in steps})
            offsets = {"log_offset": len(self.logs[news.attempt_id]), "step": max(steps, default=0)}
            self.open[news.attempt_id] = known.model_copy(update=offsets)
            if news.ended is not None:
                self.ended[news.attempt_id] = news.ended
                del self.open[news.attempt_id]
                self.forget.append(news.attempt_id)
        orders = HostOrders(
            stops=[stop for stop in self.stops if stop.attempt_id in self.open],
            traces=self.wanted_traces,
            attempts=list(self.open.values()),
            ray_address=self.ray_address,
            forget=self.forget,
            epoch=report.epoch if self.answers_of is None else self.answers_of,
            drops=[
                Owner(job_id=one.job_id, job_uuid=one.job_uuid)
                for one in report.kept_keys
                if one.job_id in self.drop and one.job_uuid not in self.unknown
            ],
            strange=[one for one in report.here if one.uuid in self.unknown],
            strange_jobs=[one for one in report.kept_keys if one.job_uuid in self.unknown],
        )
        return orders.model_dump(mode="json")
