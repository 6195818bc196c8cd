/* NCCL: not yet; whoever asks for a communicator is refused (imports.py). */
#include "double.h"

EXPORT int ncclGetVersion(int *version) { return *version = 22907, 0; }
EXPORT const char *ncclGetErrorString(int error) { return error ? "NCCL of the CUDA double: error" : "no error"; }
