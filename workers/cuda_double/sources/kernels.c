/* Kernels: what torch's libraries register, and launches, which only count and take the stream's time. */
#include "runtime.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- names of kernels, kept only for a trace: there are some hundred thousand */
struct kernel {
    const void *host;
    const char *name;
};
static struct kernel *kernels;
static size_t kernel_count, kernel_room;
static int sorted;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

EXPORT void **__cudaRegisterFatBinary(void *binary) {
    static void *handle[4];
    return (void)binary, handle;
}
EXPORT void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int limit, void *a,
                                   void *b, void *c, void *d, int *size) {
    (void)handle, (void)device, (void)limit, (void)a, (void)b, (void)c, (void)d, (void)size;
    if (!tracing) return;
    pthread_mutex_lock(&guard);
    if (kernel_count == kernel_room) {
        kernel_room = kernel_room ? 2 * kernel_room : 65536;
        kernels = realloc(kernels, kernel_room * sizeof *kernels);
        if (!kernels) refuse("no memory for the names of kernels");
    }
    kernels[kernel_count++] = (struct kernel){host, name};
    sorted = 0;
    pthread_mutex_unlock(&guard);
}

static int by_host(const void *a, const void *b) {
    const char *left = ((const struct kernel *)a)->host, *right = ((const struct kernel *)b)->host;
    return left < right ? -1 : left > right;
}
static const char *kernel_name(const void *host) {
    struct kernel wanted = {host, NULL};
    pthread_mutex_lock(&guard);
    if (!sorted) qsort(kernels, kernel_count, sizeof *kernels, by_host);
    sorted = 1;
    const struct kernel *found = bsearch(&wanted, kernels, kernel_count, sizeof *kernels, by_host);
    pthread_mutex_unlock(&guard);
    return found ? found->name : "unknown";
}

/* ---- launches */
cudaError_t launched(const char *name, cudaStream_t stream) {
    static size_t kernel_us = (size_t)-1;
    if (kernel_us == (size_t)-1) kernel_us = variable_number("CUDA_DOUBLE_KERNEL_US", 0);
    count_launch();
    cudaError_t error = ready_here();
    if (error) return error;
    if (tracing) trace("kernel", name);
    stream_work(stream, kernel_us * 1000u);
    return cudaSuccess;
}
static cudaError_t launch(const void *host, cudaStream_t stream) {
    return launched(tracing ? kernel_name(host) : "", stream);
}

/* What stands between <<< and >>> waits here until the launch of it, which follows in the same thread. */
static __thread struct {
    dim3 grid, block;
    size_t shared;
    void *stream;
} waiting[8];
static __thread int waiting_count;
EXPORT unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream) {
    if (waiting_count == 8) refuse("more than 8 kernel launches are begun in one thread");
    waiting[waiting_count].grid = grid;
    waiting[waiting_count].block = block;
    waiting[waiting_count].shared = shared;
    waiting[waiting_count++].stream = stream;
    return 0;
}
EXPORT cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    if (!waiting_count) return failed(cudaErrorUnknown);
    waiting_count--;
    *grid = waiting[waiting_count].grid;
    *block = waiting[waiting_count].block;
    *shared = waiting[waiting_count].shared;
    *(void **)stream = waiting[waiting_count].stream;
    return cudaSuccess;
}
EXPORT cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host) { return *kernel = (cudaKernel_t)host, cudaSuccess; }
EXPORT cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **with, size_t shared, cudaStream_t stream) {
    return (void)grid, (void)block, (void)with, (void)shared, launch(kernel, stream);
}
EXPORT cudaError_t cudaLaunchKernel(const void *host, dim3 grid, dim3 block, void **with, size_t shared, cudaStream_t stream) {
    return (void)grid, (void)block, (void)with, (void)shared, launch(host, stream);
}
EXPORT cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *how, const void *host, void **with) {
    return (void)with, launch(host, how->stream);
}
EXPORT cudaError_t cudaLaunchCooperativeKernel(const void *host, dim3 grid, dim3 block, void **with, size_t shared, cudaStream_t stream) {
    return (void)grid, (void)block, (void)with, (void)shared, launch(host, stream);
}

/* ---- what a kernel takes, and how many fit */
EXPORT cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *made, const void *host) {
    (void)host;
    memset(made, 0, sizeof *made);
    const struct card *card = host_card(visible_card(current_ordinal));
    made->maxThreadsPerBlock = 1024;
    made->numRegs = 64;
    /* CUB refuses an architecture that the library was not built for. */
    made->ptxVersion = made->binaryVersion = card ? card->type.binary : 0;
    made->maxDynamicSharedSizeBytes = 49152;
    return cudaSuccess;
}
EXPORT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *count, const void *host, int threads, size_t shared, unsigned flags) {
    (void)host, (void)shared, (void)flags;
    const struct card *card = host_card(visible_card(current_ordinal));
    int fit = card && threads ? card->type.threads / threads : 1;
    *count = fit > 16 ? 16 : fit < 1 ? 1 : fit;
    return cudaSuccess;
}
EXPORT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *count, const void *host, int threads, size_t shared) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(count, host, threads, shared, 0);
}

/* ---- modules of the driver (Triton, NVRTC): a function is its name */
static char module[1 << 12];
EXPORT CUresult cuModuleLoad(CUmodule *out, const char *path) { return (void)path, *out = (CUmodule)module, CUDA_SUCCESS; }
EXPORT CUresult cuModuleLoadData(CUmodule *out, const void *image) { return (void)image, *out = (CUmodule)module, CUDA_SUCCESS; }
EXPORT CUresult cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned count, CUjit_option *names, void **values) {
    return (void)image, (void)count, (void)names, (void)values, *out = (CUmodule)module, CUDA_SUCCESS;
}
EXPORT CUresult cuModuleGetFunction(CUfunction *out, CUmodule from, const char *name) {
    (void)from;
    *out = (CUfunction)strdup(name);
    return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
EXPORT CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
    return (void)function, *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0, CUDA_SUCCESS;
}
EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                               unsigned shared, CUstream stream, void **with, void **extra) {
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)with, (void)extra;
    return as_result(launched((const char *)function, stream));
}
EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig *how, CUfunction function, void **with, void **extra) {
    return (void)with, (void)extra, as_result(launched((const char *)function, how->hStream));
}
EXPORT CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                          unsigned bz, unsigned shared, CUstream stream, void **with) {
    return cuLaunchKernel(function, gx, gy, gz, bx, by, bz, shared, stream, with, NULL);
}
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, CUfunction function, int threads, size_t shared) {
    return as_result(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(count, function, threads, shared, 0));
}
EXPORT CUresult cuOccupancyMaxActiveClusters(int *count, CUfunction function, const CUlaunchConfig *how) {
    return (void)function, (void)how, *count = 1, CUDA_SUCCESS;
}
