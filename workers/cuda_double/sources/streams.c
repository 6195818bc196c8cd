/* Streams and events. Work is done the moment it is given; when it counts as done is a matter of time: each kernel
 * takes CUDA_DOUBLE_KERNEL_US microseconds of its stream, each copy its bytes at CUDA_DOUBLE_COPY_GB_S. Both are 0 when
 * not said: then everything is done at once, and no block of memory ever waits for another stream. */
#include "runtime.h"

#include <stdlib.h>
#include <time.h>

struct stream {
    uint64_t done_at;
    int ordinal, priority;
};
struct event {
    uint64_t done_at;
};

static struct stream default_streams[MAX_CARDS];
static struct stream *all[4096]; /* for cudaDeviceSynchronize */
static int stream_count;

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void wait_until(uint64_t when) {
    struct timespec at = {(time_t)(when / 1000000000u), (long)(when % 1000000000u)};
    if (when > now()) while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)) {}
}

/* 0, 1 and 2 are the legacy and per-thread default streams. */
static struct stream *stream_of(cudaStream_t stream) {
    return (size_t)stream <= 2 ? &default_streams[current_ordinal % MAX_CARDS] : (struct stream *)stream;
}

void stream_work(cudaStream_t stream, uint64_t nanoseconds) {
    if (!nanoseconds) return;
    struct stream *at = stream_of(stream);
    uint64_t from = now();
    at->done_at = (at->done_at > from ? at->done_at : from) + nanoseconds;
}

void stream_copy(cudaStream_t stream, size_t bytes) {
    static size_t gb_s = (size_t)-1;
    if (gb_s == (size_t)-1) gb_s = variable_number("CUDA_DOUBLE_COPY_GB_S", 0);
    if (gb_s) stream_work(stream, bytes / gb_s);
}

void stream_wait(cudaStream_t stream) {
    uint64_t when = stream_of(stream)->done_at;
    if (when) wait_until(when);
}

/* ---- streams */
EXPORT cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority) {
    CALLED;
    (void)flags;
    cudaError_t error = ready_here();
    if (error) return error;
    struct stream *made = calloc(1, sizeof *made);
    if (!made) return failed(cudaErrorMemoryAllocation);
    made->ordinal = current_ordinal;
    made->priority = priority;
    int at = __atomic_fetch_add(&stream_count, 1, __ATOMIC_RELAXED);
    if (at < (int)(sizeof all / sizeof *all)) all[at] = made;
    *out = (cudaStream_t)made;
    return cudaSuccess;
}
EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) { return cudaStreamCreateWithPriority(out, flags, 0); }
EXPORT cudaError_t cudaStreamCreate(cudaStream_t *out) { return cudaStreamCreateWithPriority(out, 0, 0); }
EXPORT cudaError_t cudaStreamDestroy(cudaStream_t stream) { return (void)stream, cudaSuccess; } /* kept: `all` names it */
EXPORT cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) { return *priority = stream_of(stream)->priority, cudaSuccess; }

EXPORT cudaError_t cudaStreamQuery(cudaStream_t stream) {
    cudaError_t error = ready_here();
    if (error) return error;
    uint64_t when = stream_of(stream)->done_at;
    return when && when > now() ? cudaErrorNotReady : cudaSuccess;
}
EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    CALLED;
    cudaError_t error = ready_here();
    if (!error) stream_wait(stream);
    return error;
}
EXPORT cudaError_t cudaDeviceSynchronize(void) {
    CALLED;
    cudaError_t error = ready_here();
    if (error) return error;
    wait_until(default_streams[current_ordinal].done_at);
    for (int i = 0; i < stream_count && i < (int)(sizeof all / sizeof *all); i++)
        if (all[i] && all[i]->ordinal == current_ordinal) wait_until(all[i]->done_at);
    return cudaSuccess;
}

/* ---- events */
EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    (void)flags;
    cudaError_t error = ready_here();
    if (error) return error;
    *out = calloc(1, sizeof(struct event));
    return *out ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}
EXPORT cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }
EXPORT cudaError_t cudaEventDestroy(cudaEvent_t event) { return free(event), cudaSuccess; }

EXPORT cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    CALLED;
    uint64_t from = now(), when = stream_of(stream)->done_at;
    ((struct event *)event)->done_at = when > from ? when : from;
    return cudaSuccess;
}
EXPORT cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    return (void)flags, cudaEventRecord(event, stream);
}
EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    CALLED;
    (void)flags;
    struct stream *at = stream_of(stream);
    uint64_t when = ((struct event *)event)->done_at;
    if (when > at->done_at && when > now()) at->done_at = when;
    return cudaSuccess;
}
EXPORT cudaError_t cudaEventQuery(cudaEvent_t event) {
    CALLED;
    cudaError_t error = ready_here();
    if (error) return error;
    return ((struct event *)event)->done_at > now() ? cudaErrorNotReady : cudaSuccess;
}
EXPORT cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    CALLED;
    cudaError_t error = ready_here();
    if (!error) wait_until(((struct event *)event)->done_at);
    return error;
}
EXPORT cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
    int64_t passed = (int64_t)(((struct event *)to)->done_at - ((struct event *)from)->done_at);
    return *milliseconds = (float)passed / 1e6f, cudaSuccess;
}

/* ---- functions of the host in a stream: run at once, as the work before them is done */
EXPORT cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void *), void *with) {
    return (void)stream, function(with), cudaSuccess;
}
EXPORT cudaError_t cudaStreamAddCallback(cudaStream_t stream, void (*function)(cudaStream_t, cudaError_t, void *), void *with, unsigned flags) {
    return (void)flags, function(stream, cudaSuccess, with), cudaSuccess;
}

/* ---- graphs: none is ever being captured, and none can be (cudaGraph* and the rest are refused, see imports.py) */
EXPORT cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    return (void)stream, *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
EXPORT cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                            cudaGraph_t *graph, const cudaGraphNode_t **nodes,
                                            const cudaGraphEdgeData **edges, size_t *count) {
    (void)stream, (void)nodes, (void)edges;
    *status = cudaStreamCaptureStatusNone;
    if (id) *id = 0;
    if (graph) *graph = NULL;
    if (count) *count = 0;
    return cudaSuccess;
}
