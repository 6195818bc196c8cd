/* What the CUDA parts share beside double.h: NVIDIA's types, current card, blocks, streams. */
#ifndef CUDA_DOUBLE_RUNTIME_H
#define CUDA_DOUBLE_RUNTIME_H
#include "double.h"
#define CUDAAPI
#include <cuda.h>
#include <driver_types.h>
#include <vector_types.h>
/* cuda.h renames these to their second version, which is the one that is defined here by its full name. */
#undef cuMemGetAddressRange
#undef cuModuleGetGlobal

/* devices.c */
extern __thread int current_ordinal;
cudaError_t failed(cudaError_t error);       /* kept for cudaGetLastError */
cudaError_t ready(int ordinal);              /* the card is there, answers and has a context of this process, or why not */
static inline cudaError_t ready_here(void) { return ready(current_ordinal); }
static inline CUresult as_result(cudaError_t error) { return (CUresult)error; } /* the codes used here are the same */
int device_attribute(int ordinal, int attribute);

/* memory.c: addresses of device memory (ordinal >= 0) and of pinned memory (-1). */
struct block {
    char *begin;
    size_t bytes, charged;
    int ordinal;
};
int find_block(const void *address, struct block *found);
void add_block(char *begin, size_t bytes, size_t charged, int ordinal);
int take_blocks(char *begin, size_t bytes); /* forgets those inside; how many */
char *reserve_addresses(size_t bytes);
size_t copy_limit(void);
cudaError_t copy(void *to, const void *from, size_t bytes, cudaStream_t stream, int wait);

/* streams.c: when a stream is done with what it was given, in nanoseconds of the monotonic clock. */
void stream_work(cudaStream_t stream, uint64_t nanoseconds);
void stream_copy(cudaStream_t stream, size_t bytes);
void stream_wait(cudaStream_t stream);

/* kernels.c */
cudaError_t launched(const char *name, cudaStream_t stream);
#endif
