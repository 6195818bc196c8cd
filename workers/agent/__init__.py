"""The host agent: samples cards, supervises trainers, reports to the server, carries out its orders.

agent.py           the host agent: sample, ship, obey
checkpoint_gc.py   checkpoints that nobody needs any more, removed
death_cause.py     whether a trainer that died ran out of its card
disks.py           the room on a host's disks, though one of them hangs
foreign_memory.py  memory of cards that no trainer accounts for
outbox.py          news of open attempts that the server lacks
profile_child.py   a trace as a child process with limits
profile_queue.py   traces that the server asks for, one at a time
raylet.py          this host's raylet: started, followed, ended
result_upload.py   a result, sent to the server piece by piece
server_client.py   the host's line to the server
spool.py           samples kept on disk while the server is away
state_dir.py       a host's files of one database of the server
supervisor.py      which attempts run here, which are to end, which were lost
"""
