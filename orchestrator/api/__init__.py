"""The HTTP API: the one door to the server.

accuracy.py      route of accuracy: coverage, the worst misses
actions.py       route of the audit listing: what people asked for
actors.py        who asks, and from which address
advice.py        what why and plan say would help a job that waits
app.py           the application: token on every route, one shape of error
changes.py       routes that change a job that waits: set, hold, release
checkpoints.py   which jobs' checkpoints may go, which are still there
commits.py       group commit of submissions
groups.py        routes of groups: the jobs of a sweep side by side; cancel, hold and release for all
history.py       route of history: ended jobs, for a simulation
hosts.py         routes of hosts and cards
intake.py        a submission -> validated jobs, every fault at once
jobs.py          routes of jobs: submit, list, show, logs, cancel, requeue
keys.py          Idempotency-Key: asking again makes no second job
metrics.py       route of metrics: what a training told of its steps
next_steps.py    what can be done about a job that ended, hangs, or whose host is not there
openapi.py       the OpenAPI document
openapi_file.py  docs/openapi.json, `make openapi`
orders.py        what hosts are to do now, read for all whose reports were stored together
planned.py       the job that a plan is asked for, which may lack its data
presence.py      which hosts are there, and how jobs are shown whose hosts are not
projects.py      routes of projects: their terms, what they hold
quarantine.py    the route of what is left alone
readiness.py     whether jobs can be taken and started: database, loop, dispatcher
reports.py       the route of hosts' reports, past FastAPI's layers
requeue.py       an ended job submitted again, from where it had come to
results.py       routes of results: their bytes, on their way from the host to a client
services.py      what the routes work with
views.py         rows -> the shapes of answers
waits.py         what the jobs of a submission wait for: names -> places in it
whatif.py        routes that ask the planner: plan, why
edge/            what stands in front of every route: the gate, what a query may have, and the shape of every
                 refusal
"""
