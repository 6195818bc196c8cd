"""Results and checkpoints: written, published whole, and gone on from.

artifacts.py           adapter or model, tokenizer, manifest of checksums
publishing.py          a trained model's way to its result folder
restore_weights.py     a checkpoint's weights put back into the model, all of them
resume.py              what an attempt goes on from, the same on all its ranks
safetensors_header.py  the header of a safetensors file, malformed ones refused
"""
