"""The host agent: samples cards, supervises trainers, reports to the server, carries out its orders.

disks.py           the room on a host's disks, though one of them hangs
foreign_memory.py  memory of cards that no trainer accounts for
results.py         a result, sent to the server piece by piece
segments.py        cards on which torch's memory segments can't expand, noted for the agent
"""
