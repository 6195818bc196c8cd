"""What runs on a GPU host. Knows jobs, never the orchestrator, never the database.

attempt_folder.py  the attempt folder: every file name
durable.py         files that are there whole or not at all
expert_count.py    the number of experts, by the name that TRL's loss asks for
gpus.py            cards as seen by NVML, or the operating system
machine.py         what a host says of itself
permissions.py     who may read what a host writes
processes.py       processes found for certain, ended for good
ray_network.py     Ray's command line, kept on loopback where everything is on one machine
agent/             the host agent: samples cards, supervises trainers, reports to the server, carries out its
                   orders
checkpoints/       checkpoints of a job: published whole, verified by checksum, pruned; the room that they take
checks/            checks of a job's model, tokenizer and token ids, made before a card is assigned
cuda_double/       CUDA cards that are not there: NVIDIA's libraries stood in for by ours. Real allocator, no
                   GPU
data/              a job's training data: its rows as the files have them, the data set made of them, their
                   checks, their lengths
identity/          whose files are whose on a host: what is not what the server has by its id is set aside,
                   never used or deleted
profiler/          the real training step on fake tensors -> MemoryProfile
rehearsal/         a job's first steps in front of the CUDA double: the trainer that would run it, torch's real
                   allocator, no GPU
trainer/           what runs in the process of one rank: TRL, its callbacks, its memory meter
"""
