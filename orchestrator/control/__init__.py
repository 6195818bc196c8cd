"""The controller: one loop of numbered steps, and the only clock.

hearing.py       silence, by a clock that stands still while the server is deaf
leadership.py    whether this server leads: the lease taken, kept, watched
led_dispatch.py  the dispatcher of a server that may lead
planning.py      plan() without the jobs that it raises for
quarantine.py    records that can't be handled are left alone; the rest goes on
readable.py      the rows of one instant without what can't be read
rounds.py        when the loop made its last good round, and when the next is due
silent.py        attempts that cannot speak for themselves any more
starts.py        the order of ranks, jobs for which no start is left, hosts where none comes up
"""
