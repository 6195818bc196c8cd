"""Who runs where, and the record of it.

config.py   settings, read once
api/        the HTTP API: the one door to the server
cli/        the command line: one small module a group of verbs, imported when the verb runs
client/     the typed Python client, and the thin HTTP transport of the command line
control/    the controller: one loop of numbered steps, and the only clock
dispatch/   start and stop over Ray, in a process of its own
local/      what runs on this machine alone, without a server: a plan, and a rehearsal in front of the CUDA
            double
notify/     notifications on their way to webhooks
scheduler/  plan(given) -> Plan: who starts where, who is stopped for whom, and why the others wait
schemas/    the API's JSON answers as types. Times are Unix seconds, memory is bytes
server/     the processes of the control host: `tuneyard serve`, `up` and `down`
simulate/   the scheduler on a virtual clock: a trace and a fleet through the very same plan()
store/      every SQL statement. Store is the one door to the database, for one process and any number of
            threads
transfer/   a job's result on its way from the GPU host through the server to a client
vault.py    secrets at rest
web/        the page that the server sends to browsers
whatif/     questions to the planner that change nothing: job figures, likely start times, what would help
"""
