"""Groups of jobs: found by name, and the losses of their jobs side by side."""

from __future__ import annotations

import sqlalchemy as sa

from jobs.errors import NotFound, UsageError
from jobs.jobfile.sweep import first_name
from jobs.state import JobState
from orchestrator.store.engine.database import Database
from orchestrator.store.rows import MemberLoss
from orchestrator.store.schema.tables import attempts, jobs, progress

# Of each attempt the first line with a loss from that step on: one index look-up each.
_lines = progress.alias("lines")
_FIRST = (
    sa.select(sa.func.min(_lines.c.step))
    .where(
        _lines.c.attempt_id == attempts.c.id,
        _lines.c.step >= sa.bindparam("after_steps", type_=sa.Integer),
        _lines.c.loss.is_not(None),
    )
    .scalar_subquery()
)
_LAST = sa.select(sa.func.max(_lines.c.step)).where(_lines.c.attempt_id == attempts.c.id).scalar_subquery()
_LOSSES = (
    sa.select(jobs.c.id, jobs.c.state, _LAST, progress.c.loss)
    .select_from(
        jobs.outerjoin(attempts, attempts.c.job_id == jobs.c.id).outerjoin(
            progress, sa.and_(progress.c.attempt_id == attempts.c.id, progress.c.step == _FIRST)
        )
    )
    .where(jobs.c.group_id == sa.bindparam("its_group", type_=sa.BigInteger))
    .order_by(jobs.c.id, attempts.c.number)
)


class GroupStore(Database):
    """Groups of jobs."""

    def find_group(self, text: str) -> int:
        """The id of the group with that id or name. Raises NotFound, and UsageError where several have the name."""
        with self.read() as connection:
            if text.isascii() and text.isdigit() and len(text) < 19:
                known = sa.select(jobs.c.id).where(jobs.c.group_id == int(text)).limit(1)
                if connection.execute(known).scalar() is not None:
                    return int(text)
            found = groups_named(connection, text)
        if not found:
            raise NotFound(f"there is no group {text}; `tuneyard list` shows the groups of jobs")
        if len(found) > 1:
            raise UsageError(
                f"{text!r} is the name of {len(found)} groups: {', '.join(map(str, found))}; give the id of one"
            )
        return found[0]

    def group_losses(self, group_id: int, after_steps: int) -> list[MemberLoss]:
        """Each job of a group, by id, with its loss when it first came to that step."""
        found: dict[int, MemberLoss] = {}
        with self.read() as connection:
            for job_id, state, last, loss in connection.execute(
                _LOSSES, {"its_group": group_id, "after_steps": after_steps}
            ):
                known = found.get(job_id)
                reached = (last or 0) >= after_steps or (known is not None and known.reached)
                first = loss if known is None or known.loss is None else known.loss
                found[job_id] = MemberLoss(job_id, JobState(state), reached, first)
        return list(found.values())


def groups_named(connection: sa.Connection, name: str) -> list[int]:
    """Ids of the groups whose jobs are NAME-1, NAME-2 and so on."""
    first = first_name(name)
    stem = first[:-1]
    others = jobs.alias()
    named_otherwise = sa.select(others.c.id).where(
        others.c.group_id == jobs.c.id, sa.func.substr(others.c.name, 1, len(stem)) != stem
    )
    query = sa.select(jobs.c.id).where(
        jobs.c.name == first, jobs.c.group_id == jobs.c.id, ~named_otherwise.exists()
    )
    return list(connection.execute(query.order_by(jobs.c.id)).scalars())
