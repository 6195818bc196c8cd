"""Jobs that share a card: how much they slow each other down, and when they are kept apart.

colocation.py    jobs that share a card, in the record: parted where they slow each other down
interference.py  jobs side by side on a card: when they are too slow, and who goes
"""
