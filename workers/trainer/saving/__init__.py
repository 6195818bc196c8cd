"""Results and checkpoints: written, published whole, and gone on from.

artifacts.py        adapter or model, tokenizer, manifest of checksums
restore_weights.py  a checkpoint's weights put back into the model, all of them
resume.py           what an attempt goes on from, the same on all its ranks
"""
