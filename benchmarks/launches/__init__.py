"""How many kernels a training step launches: counted on the CUDA double, beside what a trace of the model counts."""
