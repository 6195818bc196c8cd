"""Hosts and cards, and what hosts report.

exported.py    what is exported as metrics beside the live state
fleet.py       hosts and cards
live.py        the fleet as it is now, in narrow rows
open_parts.py  what is open on hosts, for many of them at a time
readings.py    readings of cards, pages of logs
reports.py     what hosts report
series.py      curves of a training, thinned so that a long job stays small
telemetry.py   samples, logs, progress
"""
