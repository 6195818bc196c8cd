"""What runs on a GPU host. Knows jobs, never the orchestrator, never the database.

attempt_folder.py       the attempt folder: every file name
durable.py              files that are there whole or not at all
expandable_segments.py  cards on which torch's memory segments can't expand, noted for the agent
gpus.py                 cards as seen by NVML, or the operating system
input_errors.py         what is wrong with data, said by a reader that knows the place
lfs_pointers.py         Git LFS pointers
machine.py              what a host says of itself
permissions.py          who may read what a host writes
ports.py                a TCP port that nothing listens on now
processes.py            processes found for certain, ended for good
ray_network.py          Ray's command line, kept on loopback where everything is on one machine
set_aside.py            what is not what the server has by its id, moved out of the way
agent/                  the host agent: samples cards, supervises trainers, reports to the server, carries out
                        its orders
checkpoints/            checkpoints of a job: published whole, verified by checksum, pruned, fetched from other
                        hosts
checks/                 checks of what a job file points at: model files, weights, data, output. They need no
                        torch: the server runs them too
cuda_double/            CUDA cards that are not there: NVIDIA's libraries stood in for by ours. Real allocator,
                        no GPU
data/                   a job's training data: its rows as the files have them, the data set made of them, their
                        checks, their lengths
model/                  a job's model, tokenizer and adapters, as the libraries build them, and the checks that
                        this takes
profiler/               the real training step on fake tensors -> MemoryProfile
rehearsal/              a job's first steps in front of the CUDA double: the trainer that would run it, torch's
                        real allocator, no GPU
trainer/                what runs in the process of one rank: TRL, its callbacks, its memory meter
"""
