"""Hosts and cards, and what hosts report.

card_news.py   events of cards, as their hosts report
card_signs.py  what readings say of a card's health, beside what was told of it last. Pure
cards.py       one card: found by name, which attempts held it
exported.py    what is exported as metrics beside the live state
fleet.py       hosts and cards
live.py        the fleet as it is now, in narrow rows
open_parts.py  what is open on hosts, for many of them at a time
readings.py    readings of cards, pages of logs
reports.py     what hosts report
series.py      curves of a training, thinned so that a long job stays small
telemetry.py   samples, logs, progress
"""
