"""Results and checkpoints: written, published whole, and gone on from.

artifacts.py        adapter or model, tokenizer, manifest of checksums
best.py             the best checkpoint by the loss of the rows held out; an end once it stands still
restore_weights.py  loads all of a checkpoint's weights back into the model
resume.py           from what an attempt goes on, the same on all its ranks
"""
