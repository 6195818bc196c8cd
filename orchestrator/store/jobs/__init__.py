"""Jobs in the database: submitted, listed, changed, held, moved from state to state.

changes.py       changes of a job's file
dependencies.py  what jobs wait for
groups.py        groups by name, the losses of a sweep's jobs
history.py       ended jobs as a simulation wants them
holds.py         jobs held and released
jobs.py          jobs
listing.py       lists of jobs: filtered, sorted, cut
steps.py         what follows another job's training
submissions.py   submissions made once under a key; requeue
transitions.py   the one statement that changes a job's state
views.py         jobs with the latest of their attempts
"""
