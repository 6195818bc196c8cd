"""The host agent: samples cards, supervises trainers, reports to the server, carries out its orders.

agent.py           the loop: sample, report, obey
checkpoint_gc.py   removes checkpoints that are no longer needed
dcgm_mapping.py    the folder in which dcgm-exporter looks up jobs
death_cause.py     whether a trainer that died ran out of memory
disks.py           free space on a host's disks, even if one of them hangs
foreign_memory.py  memory of cards that belongs to no trainer
outbox.py          news of open attempts that the server lacks
profile_child.py   a trace as a child process with limits
profile_queue.py   traces that the server asks for, one at a time
raylet.py          this host's raylet: start, watch, end
result_upload.py   a result, sent to the server piece by piece
server_client.py   HTTP to the server
spool.py           samples kept on disk while the server is away
state_dir.py       the state directory: a host's files of one database
supervisor.py      which attempts run here, which must end, which were lost
"""
