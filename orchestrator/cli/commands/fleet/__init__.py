"""Verbs of who operates the fleet: hosts, cards, projects, services, the database.

audit.py     tuneyard audit: who asked for what, and from where
card.py      tuneyard gpus CARD: one card, what happened to it and which jobs it ran
database.py  tuneyard db: the job database
doctor.py    tuneyard doctor: each thing that must be right, and what to do when it is not
events.py    tuneyard events: what happened across jobs and hosts
host.py      tuneyard host: run a host agent, drain hosts
notify.py    tuneyard notify: who is told of what
project.py   tuneyard project
secret.py    tuneyard secret: what trainers may use and nobody may read
services.py  tuneyard up, down, serve: the processes of the control host
tables.py    tuneyard hosts and gpus: the tables
top.py       tuneyard top: cards and jobs, live
web.py       tuneyard web: a link to the web page
"""
