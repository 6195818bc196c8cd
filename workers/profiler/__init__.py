"""The real training step on fake tensors -> MemoryProfile.

__main__.py             a profile, then the lengths of the data, in a child process
adapters.py             adapters on the model under trace
cross_layer_tensors.py  tensors that a layer returns and the next layer frees
fake_model.py           the model under trace: real classes, fake weights
layer_classes.py        which layers of a model are alike; a model cut down to one of each
length_scan.py          the lengths of a job's sequences, with every row checked
offload.py              the host's memory under a trace: what offload moves there and back
optimizer_state.py      bytes of the trainer's optimizer state
passes.py               the passes of a profile
probe_shapes.py         shapes whose sizes show what they depend on
router_loss.py          the load-balancing loss of models with experts, at full depth
scan_loops.py           loops of layers over tokens or chunks, recognised by their steps
step.py                 one micro-batch of the real step on fake tensors
storage_tracker.py      follows every live storage of a fake-tensor run
trace.py                a model and a method -> MemoryProfile
emulation/              what a CUDA card does and the CPU of a trace does not, emulated during a trace
losses/                 what one micro-batch of each trainer computes
"""
