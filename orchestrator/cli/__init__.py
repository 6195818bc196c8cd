"""The command line: one small module a group of verbs, imported when the verb runs.

flags.py      the flags that describe a job, shared by submit and plan, and the request body made of them
follow.py     follows jobs to their end: states, logs, exit codes
groups.py     what all groups of verbs share: misspelt verbs, help
log_output.py  where a job's log goes: cleaned, filtered, the middle of what is too long left out
main.py       `tuneyard`: the entry point, a click group that imports a verb's module when the verb runs
output.py     what every verb shares: its options, JSON on stdout, notes on stderr, errors and exit codes
reference.py  writes docs/job-file.md from the job file's schema: `python -m orchestrator.cli.reference
times.py      a time that is past, as an option takes it
welcome.py    what `tuneyard` alone prints: where to start, and the server's state
commands/     the verbs of the command line, each imported when it runs
render/       how answers are drawn: words, tables, text and pictures. Pure: the time comes in as an argument
report/       tuneyard report: one job as one page that needs nothing else
top/          tuneyard top: the fleet live in a terminal
"""
