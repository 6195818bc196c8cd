"""Attempts and their leases: opened, stopped, ended.

attempts.py       attempts: stopped, ended with what was measured
cleared_cards.py  cards given back for a job that still waits
colocation.py     which jobs shared a card, how fast, and which were separated
host_faults.py    hosts on which no trainer can start
reported_ends.py  what hosts say of ends, until the controller acts on it
starts.py         attempts opened with their leases, several under one commit
"""
