"""Which server of a database decides, and its dispatcher.

leadership.py    whether this server leads: the lease taken, kept, watched
led_dispatch.py  the dispatcher of a server that may lead
"""
