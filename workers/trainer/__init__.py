"""What runs in the process of one rank: TRL, its callbacks, its memory meter.

allocator.py      torch's CUDA allocator on the job's card
callbacks.py      progress, checkpoints, stopping, figures of a running trainer
config.py         TRL's configuration of a job on a rung
entrypoint.py     the process of one rank: group, log, environment, imports
finite.py         detects losses, gradients and weights that are not finite
guarded.py        what every trainer gets from us: each step is checked before its update
longest_first.py  the longest rows in the first step, for an allocator that keeps what it took
memory_meter.py   a trainer's memory, and the limit that makes a CPU card real
metrics.py        what a trainer says of its steps beside the loss
options.py        what a job file says of the optimizer and its schedule, as TRL's configurations take it
publishing.py     publishes a trained model to its result folder
ray_actor.py      the Ray actor
state_apart.py    optimizer state in segments of its own, where segments don't expand
trackers.py       TensorBoard, Weights & Biases, MLflow, trackio: they can't hold up the training
train.py          TRL: build the trainer of an assignment, run it
faults/           numbers that are not finite, and why a trainer ended with an exception
ranks/            the ranks of one attempt: they meet, watch each other and decide together
trainers/         TRL's trainers, one module each
saving/           results and checkpoints: written, published whole, and gone on from
"""
