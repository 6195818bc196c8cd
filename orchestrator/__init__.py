"""Who runs where, and the record of it.

child.py         one dispatch process: what it says, what it is told, when it counts as hung
claims.py        cards that others were stopped for, kept for whom they were stopped
client.py        the typed Python client
column_types.py  JSON and text as columns hold them
config.py        settings, read once
controller.py    the loop, numbered steps; the only clock
data_lengths.py  lengths of data, filled into the snapshot
decay.py         how what was used fades
dispatch.py      start rank actors over Ray, in a process of its own
dispatcher.py    the server's side of dispatch
due.py           when a job may stop others that have yet to run their minimum
early_stop.py    ends the worst jobs of a sweep
endings.py       what several hosts say of an attempt's end -> how it ended
estimate.py      when queued jobs are likely to start
fleet.py         the snapshot
forecast.py      profile, card and choice -> the figures of a plan
handover.py      open attempts -> assignments for the dispatcher, by host
head.py          the Ray head: started, adopted, ended
heartbeat.py     what a process says of itself while each piece of its work keeps its time
home.py          the host that has a job's checkpoint: what leaving it costs
kinds.py         kinds of jobs, which fit the same cards alike
lifecycle.py     `up` and `down`
likely.py        when likely starts are worked out anew
line.py          the queue in its order, kept from plan to plan
local.py         a plan made on this machine alone
memo.py          what follows from immutable rows, worked out once: specs, keys, profiles, choices
moves.py         running jobs that would end clearly sooner on other cards
neighbours.py    jobs that share a card, in the record: parted where they slow each other down
order.py         the rules of a policy, and what a job is ranked by under them
pace.py          how far jobs have come, and when they end
placement.py     place(): the smallest card that fits, or why not
plan.py          plan(fleet, now) -> Plan: the scheduler
reasons.py       why a job waits that some card would take
reserve.py       starts to come, and what may run before them
roll.py          the running jobs by shelf, and how far ahead a waiting one must be to stop some
scarce.py        cards that only some of the waiting jobs can use
serve.py         `tuneyard serve`: API, controller, dispatcher
sharing.py       jobs side by side on a card: when they are too slow, and who goes
shelf.py         the cards of one type on one host
snapshot.py      rows -> snapshot
sooner.py        what in its own job file would let a job start sooner, tried with all that wait
steady.py        jobs that did not change: the same objects in every snapshot
stock.py         the cards by shelf, which are free, and which suit which kind of job
tables.py        tables, constraints, indexes
tokens.py        which tokens a server starts with: none that can be guessed
turns.py         who is served next in a plan
victims.py       who is stopped so that another can start
api/             the HTTP API: the one door to the server
cli/             the command line: one small module a group of verbs, imported when the verb runs
control/         the controller: one loop of numbered steps, and the only clock
rehearsal/       a job's rehearsal on this machine: the rung that a plan chooses for a card, run in front of the
                 CUDA double
schemas/         the API's JSON answers as types. Times are Unix seconds, memory is bytes
simulate/        the scheduler on a virtual clock: a trace and a fleet through the very same plan()
store/           every SQL statement. Store is the one door to the database, for one process and any number of
                 threads
transfer/        a job's result on its way from the GPU host through the server to a client
"""
