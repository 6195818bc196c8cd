"""Which cards a job gets: the free capacity of the fleet, and the cheapest card and rung that fit.

capacity.py     the cards by card group, which are free, and which suit which class of jobs
card_groups.py  the cards of one type on one host
locality.py     the host that has a job's checkpoint: what leaving it costs
place.py        place(): the smallest card that fits, or why not
scarcity.py     cards that only some of the waiting jobs can use
"""
