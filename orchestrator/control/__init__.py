"""The controller: one loop of numbered steps, and the only clock.

assignments.py         open attempts -> assignments for the dispatcher, by host
controller.py          the loop, numbered steps; the only clock
early_stop.py          ends the worst jobs of a sweep
host_silence.py        silence, by a clock that stands still while the server is deaf
idle_attempts.py       ends attempts that hold their cards and do nothing with them
long_waits.py          tells of jobs that wait for long
lost_attempts.py       attempts that cannot speak for themselves any more
outcomes.py            what several hosts say of an attempt's end -> how it ended
plan_due.py            when the next plan is due though nobody here asked for one
planning.py            plan() without the jobs that it raises for
quarantine.py          records that can't be handled are left alone; the rest goes on
rounds.py              when a round was good, when the next is due, how one leaves the interpreter to requests
snapshot_reader.py     everything of one instant, read: the fleet, and the jobs that can't train as they are
start_time_refresh.py  when likely starts are worked out again
starts.py              the order of ranks, jobs for which no start is left, hosts where none comes up
leader/                which server of a database decides, and its dispatcher
sharing/               jobs that share a card: how much they slow each other down, and when they are kept apart
steps/                 what follows a training: jobs that take no card
snapshot/              rows of the store -> the fleet snapshot that a plan is made from
"""
