"""What runs on a GPU host. Knows jobs, never the orchestrator, never the database.

attempt_folder.py       the attempt folder: every file name
durable.py              files that are complete or absent
expandable_segments.py  cards on which torch's memory segments can't expand, recorded for the agent
gpus.py                 cards as seen by NVML, or the operating system
hidden_values.py       values that no text of a trainer has: secrets of its job
input_errors.py         errors of data, with the place that the reader knows
lfs_pointers.py         Git LFS pointers
machine.py              what a host reports of itself
permissions.py          who may read what a host writes
ports.py                a TCP port that nothing listens on now
processes.py            processes identified for certain, and ended
ray_network.py          Ray's command line; on loopback if everything is on one machine
set_aside.py            files that are not those of the job or attempt by that id, moved away
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
fit/                    `tuneyard.fit`: the memory ladder for a TRL script of one's own
model/                  a job's model, tokenizer and adapters, as the libraries build them, and the checks that
                        this takes
profiler/               the real training step on fake tensors -> MemoryProfile
rehearsal/              a job's first steps in front of the CUDA double: the trainer that would run it, torch's
                        real allocator, no GPU
steps/                  what follows a training: merge, on the CPU of the host that has the result
trainer/                what runs in the process of one rank: TRL, its callbacks, its memory meter
"""
