"""Model, tokenizer and adapters of a job, as the libraries build them.

build.py           model, tokenizer, adapters, as the libraries build them
late_imports.py    what starts CUDA when imported: put off until it is used
quantize.py        the base model packed in 4 bits
unsloth_engine.py  the model as Unsloth builds it
"""
