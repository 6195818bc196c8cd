"""The command line: one small module a group of verbs, imported when the verb runs.

accuracy.py       tuneyard accuracy
answers.py        what a server's answer means: its JSON, or one of jobs.errors
audit.py          tuneyard audit: who asked for what, and from where
changes.py        tuneyard set, hold, release
completion.py     tuneyard completion
control.py        tuneyard cancel and requeue
database.py       tuneyard db: the job database
detail.py         tuneyard show and why: one job in sections
doctor.py         tuneyard doctor: each thing that must be right, and what to do when it is not
flags.py          the flags that describe a job, shared by submit and plan, and the request body made of them
follow.py         watching jobs to their end: states, logs, exit codes
groups.py         what all groups of verbs share: misspelt verbs, help
hosts.py          tuneyard host: run a host agent, drain hosts
http.py           the thin transport of the CLI: JSON over http.client, every failure as one of jobs.errors
jobfile.py        tuneyard init and schema: what a job file looks like
listing.py        tuneyard hosts and gpus: the tables
logs.py           tuneyard logs
main.py           `tuneyard`: the entry point, a click group that imports a verb's module when the verb runs
once.py           a submission made once, however often it takes to get the answer
output.py         what every verb shares: its options, JSON on stdout, notes on stderr, errors and exit codes
plan.py           tuneyard plan
plan_plot.py      its picture: memory by part against rung
plan_text.py      what it says: cards, parts, rungs
plots.py          pictures for `--plot`: what they share, and the drawings
projects.py       tuneyard project
reference.py      writes docs/job-file.md from the job file's schema: `python -m orchestrator.cli.reference
rehearse.py       `tuneyard rehearse`
services.py       tuneyard up, down, serve: the processes of the control host
settings.py       where the server is: flags, then the environment, then config.json in the home folder
simulate.py       tuneyard simulate
simulate_plot.py  its picture: how completion and waiting times are spread
simulate_text.py  what it says: a line a policy, one a group
submit.py         tuneyard submit
table.py          tables and sections: rich on a terminal, aligned text in a pipe
top.py            tuneyard top: cards and jobs, live
welcome.py        what `tuneyard` alone says: where to start, and how the server is
words.py          how jobs, cards and times read for people
jobs/             verbs about jobs and what came of them: list, sweeps, metrics, pull
"""
