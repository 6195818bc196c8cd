"""What runs on a GPU host. Knows jobs, never the orchestrator, never the database.

adapters.py        adapters on the model under trace
attempt.py         the process of one rank: group, log, environment, imports
building.py        model, tokenizer, adapters, as the libraries build them
callbacks.py       progress, checkpoints, stopping, figures of a running trainer
carried.py         what a checkpointed layer leaves until the next has run
carry.py           a job's checkpoint fetched from the host that has it
courier.py         the Ray actor that reads a checkpoint for a trainer on another host
cuda_paths.py      what a CUDA card does differently from the CPU that traces for it
deaths.py          whether a trainer that died ran out of its card
durable.py         files that are there whole or not at all
expert_count.py    the number of experts, by the name that TRL's loss asks for
fake_model.py      the model under trace: real classes, fake weights
folder.py          the attempt folder: every file name
four_bit.py        bitsandbytes' 4-bit layer as the trace sees it
gang.py            ranks of one attempt on one host watch each other
gpus.py            cards as seen by NVML, or the operating system
grouped.py         grouped products of experts on fake tensors, in every type
host.py            the host agent: sample, ship, obey
host_memory.py     the host's memory under a trace: what offload moves there and back
inputs.py          checks of what a job file points at
layer_kinds.py     which layers of a model are alike, and a model cut down to one of each
lean.py            what a trace has no use for of what its libraries import
link.py            the host's line to the server
live_bytes.py      follows every live storage of a fake-tensor run
machine.py         what a host says of itself
marks.py           shapes whose sizes tell what they depend on
measure.py         a trainer's memory, and the limit that makes a CPU card real
optimizers.py      bytes of the trainer's optimizer state
permissions.py     who may read what a host writes
processes.py       processes found for certain, ended for good
profiling.py       a profile, then the lengths of the data, in a child process
publishing.py      a trained model's way to its result folder
quantising.py      the base model packed in 4 bits
rank.py            the Ray actor
ray_start.py       Ray's command line, kept on loopback where everything is on one machine
raylet.py          this host's raylet: started, followed, ended
results.py         adapter or model, tokenizer, manifest of checksums
resuming.py        what an attempt goes on from, the same on all its ranks
router_loss.py     the load-balancing loss of models with experts, at full depth
scans.py           loops of layers over tokens or chunks, known by their steps
shipping.py        news of open attempts that the server lacks
span.py            ranks on several hosts: they meet, resume from one checkpoint, bring home random states
spool.py           samples kept on disk while the server is away
step_trace.py      one micro-batch of the real step on fake tensors
supervisor.py      which attempts run here, which are to end, which were lost
tidy.py            checkpoints that nobody needs any more, removed
trace_child.py     a trace as a child process with limits
tracer.py          traces that the server asks for, one at a time
tracing.py         a model and a method -> MemoryProfile
training.py        TRL: build the trainer of an assignment, run it
unsloth_engine.py  the model as Unsloth builds it
yard.py            a host's files of one database of the server
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
