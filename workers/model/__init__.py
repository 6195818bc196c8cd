"""A job's model, tokenizer and adapters, as the libraries build them, and the checks that this takes.

adapters.py        LoRA adapters as PEFT and TRL make them: which layers, and in which type
build.py           model, tokenizer, adapters, as the libraries build them
expert_count.py    the number of experts, by the name that TRL's loss asks for
heads.py           which head a trainer trains a model with
host_checks.py     what only the host can see of a model
late_imports.py    what starts CUDA when imported: put off until it is used
quantize.py        the base model packed in 4 bits
token_ids.py       token ids against the rows of the embedding
unsloth_engine.py  the model as Unsloth builds it
"""
