"""The yardstick of `make bench-submit`: a starlette handler with one SQLAlchemy insert and synchronous=FULL.

python -m benchmarks.bare DATABASE PORT
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import sqlalchemy as sa
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

jobs = sa.Table(
    "jobs",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String),
    sa.Column("spec", sa.String),
    sa.Column("submitted_at", sa.Float),
)


def application(path: str) -> Starlette:
    """POST /jobs {"jobs": [{"spec": {..}}]} stores each job durably and answers with their ids."""
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", _durable)
    jobs.create(engine)

    async def submit(request: Request) -> JSONResponse:
        specs = [item["spec"] for item in (await request.json())["jobs"]]
        now = time.time()
        rows = [{"name": s["name"], "spec": json.dumps(s), "submitted_at": now} for s in specs]
        with engine.begin() as connection:
            if len(rows) == 1:
                ids = [connection.execute(jobs.insert().returning(jobs.c.id), rows[0]).scalar_one()]
            else:
                connection.execute(jobs.insert(), rows)
                ids = []
        return JSONResponse({"ids": ids}, status_code=201)

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/jobs", submit, methods=["POST"]), Route("/health", health)])


def _durable(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), port=int(sys.argv[2]), log_level="warning", access_log=False)
