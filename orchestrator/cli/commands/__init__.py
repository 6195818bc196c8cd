"""The verbs of the command line, each imported when it runs.

completion.py  tuneyard completion
fleet/         verbs of who operates the fleet: hosts, cards, projects, services, the database
jobs/          verbs about jobs: submit, list, show, logs, metrics, pull, cancel and changes
planning/      verbs that ask before anything runs: plan, rehearse, simulate, accuracy, init, convert
watching/      verbs that show what was measured: stats, usage
"""
