/* Memory of the runtime: what is allocated is charged to the card, and lies in host pages that cost nothing until they
 * are written. So copies and fills are made only up to CUDA_DOUBLE_COPY_MAX bytes (1 MiB): what decides shapes is small. */
#include "runtime.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const size_t PAGE = 2 * MIB; /* a card's memory is handed out in pages of 2 MiB */

/* ---- blocks, by address */
static struct block *blocks;
static size_t block_count, block_room;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static size_t first_behind(const char *address) { /* index of the first block that begins behind an address */
    size_t low = 0, high = block_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (blocks[middle].begin <= address) low = middle + 1;
        else high = middle;
    }
    return low;
}

int find_block(const void *address, struct block *found) {
    pthread_mutex_lock(&guard);
    size_t behind = first_behind(address);
    int inside = behind && (const char *)address < blocks[behind - 1].begin + blocks[behind - 1].bytes;
    if (inside && found) *found = blocks[behind - 1];
    pthread_mutex_unlock(&guard);
    return inside;
}

void add_block(char *begin, size_t bytes, size_t charged, int ordinal) {
    pthread_mutex_lock(&guard);
    if (block_count == block_room) {
        block_room = block_room ? 2 * block_room : 1024;
        blocks = realloc(blocks, block_room * sizeof *blocks);
        if (!blocks) refuse("no memory for %zu blocks", block_room);
    }
    size_t at = first_behind(begin);
    memmove(&blocks[at + 1], &blocks[at], (block_count++ - at) * sizeof *blocks);
    blocks[at] = (struct block){begin, bytes, charged, ordinal};
    pthread_mutex_unlock(&guard);
}

int take_blocks(char *begin, size_t bytes) {
    pthread_mutex_lock(&guard);
    size_t from = first_behind(begin - 1), to = first_behind(begin + bytes - 1);
    memmove(&blocks[from], &blocks[to], (block_count - to) * sizeof *blocks);
    block_count -= to - from;
    pthread_mutex_unlock(&guard);
    return (int)(to - from);
}

char *reserve_addresses(size_t bytes) {
    char *got = mmap(NULL, bytes + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) return NULL;
    char *begin = (char *)(((size_t)got + PAGE - 1) & ~(PAGE - 1));
    if (begin > got) munmap(got, (size_t)(begin - got));
    if (got + PAGE > begin) munmap(begin + bytes, (size_t)(got + PAGE - begin));
    madvise(begin, bytes, MADV_NOHUGEPAGE); /* a huge page is all written when one byte of it is */
    return begin;
}

/* ---- device memory. Allocations under 1 MiB share pages: they are charged by what they add up to. */
static size_t small_bytes[MAX_CARDS];

static size_t pages(size_t bytes) { return (bytes + PAGE - 1) & ~(PAGE - 1); }

/* What an allocation adds to the charge of its card; release: what giving it back takes off. */
static size_t charge_of(int card, size_t bytes, int release) {
    if (bytes >= MIB) return pages(bytes);
    pthread_mutex_lock(&guard);
    size_t before = pages(small_bytes[card]);
    small_bytes[card] += release ? -bytes : bytes;
    size_t after = pages(small_bytes[card]);
    pthread_mutex_unlock(&guard);
    return release ? before - after : after - before;
}

EXPORT cudaError_t cudaMalloc(void **out, size_t bytes) {
    CALLED;
    *out = NULL;
    cudaError_t error = ready_here();
    if (error || !bytes) return error;
    int card = visible_card(current_ordinal);
    size_t given = (bytes + 511) & ~(size_t)511, charge = charge_of(card, given, 0);
    char *begin = NULL;
    if (!allocation_fails(card) && ledger_charge(card, charge)) {
        begin = reserve_addresses(pages(given));
        if (!begin) ledger_release(card, charge);
    }
    if (!begin) {
        charge_of(card, given, 1);
        return failed(cudaErrorMemoryAllocation);
    }
    add_block(begin, pages(given), given, current_ordinal);
    *out = begin;
    return cudaSuccess;
}

EXPORT cudaError_t cudaFree(void *address) {
    CALLED;
    struct block block;
    if (!address) return ready_here(); /* cudaFree(0) is a usual way to make a context */
    if (!find_block(address, &block) || block.begin != address || block.ordinal < 0) return failed(cudaErrorInvalidValue);
    int card = visible_card(block.ordinal);
    take_blocks(block.begin, block.bytes);
    munmap(block.begin, block.bytes);
    if (block.charged) ledger_release(card, charge_of(card, block.charged, 1));
    else ledger_managed(card, -(long long)block.bytes);
    return cudaSuccess;
}

EXPORT cudaError_t cudaMallocAsync(void **out, size_t bytes, cudaStream_t stream) { return (void)stream, cudaMalloc(out, bytes); }
EXPORT cudaError_t cudaFreeAsync(void *address, cudaStream_t stream) { return (void)stream, cudaFree(address); }

/* The driver moves managed memory to the host when room is wanted, so it never makes an allocation fail. */
EXPORT cudaError_t cudaMallocManaged(void **out, size_t bytes, unsigned flags) {
    CALLED;
    (void)flags;
    cudaError_t error = ready_here();
    if (error) return error;
    *out = reserve_addresses(pages(bytes));
    if (!*out) return failed(cudaErrorMemoryAllocation);
    add_block(*out, pages(bytes), 0, current_ordinal);
    ledger_managed(visible_card(current_ordinal), (long long)pages(bytes));
    return cudaSuccess;
}

EXPORT cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    CALLED;
    cudaError_t error = ready_here();
    if (error) return error;
    int card = visible_card(current_ordinal);
    *total = host_card(card)->type.usable;
    *free_bytes = *total - ledger_used(card);
    return cudaSuccess;
}

/* ---- pinned memory of the host */
EXPORT cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
    CALLED;
    (void)flags;
    if (posix_memalign(out, 4096, bytes ? bytes : 1)) return failed(cudaErrorMemoryAllocation);
    add_block(*out, bytes ? bytes : 1, 0, -1);
    return cudaSuccess;
}
EXPORT cudaError_t cudaMallocHost(void **out, size_t bytes) { return cudaHostAlloc(out, bytes, 0); }
EXPORT cudaError_t cudaFreeHost(void *address) {
    CALLED;
    if (!address) return cudaSuccess;
    if (!take_blocks(address, 1)) return failed(cudaErrorInvalidValue);
    free(address);
    return cudaSuccess;
}
EXPORT cudaError_t cudaHostRegister(void *address, size_t bytes, unsigned flags) {
    CALLED;
    (void)flags;
    add_block(address, bytes, 0, -1);
    return cudaSuccess;
}
EXPORT cudaError_t cudaHostUnregister(void *address) {
    CALLED;
    return take_blocks(address, 1) ? cudaSuccess : failed(cudaErrorInvalidValue);
}
EXPORT cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags) {
    return (void)flags, *device = host, cudaSuccess;
}

EXPORT cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *made, const void *address) {
    CALLED;
    struct block block;
    memset(made, 0, sizeof *made);
    if (!find_block(address, &block)) {
        made->type = cudaMemoryTypeUnregistered;
        made->device = -2; /* cudaInvalidDeviceId */
        made->hostPointer = (void *)address;
        return cudaSuccess;
    }
    made->devicePointer = (void *)address;
    if (block.ordinal < 0) {
        made->type = cudaMemoryTypeHost;
        made->hostPointer = (void *)address;
    } else {
        made->type = cudaMemoryTypeDevice;
        made->device = block.ordinal;
    }
    return cudaSuccess;
}

/* ---- copies and fills */
size_t copy_limit(void) {
    static size_t limit = (size_t)-1;
    if (limit == (size_t)-1) limit = variable_number("CUDA_DOUBLE_COPY_MAX", MIB);
    return limit;
}


cudaError_t copy(void *to, const void *from, size_t bytes, cudaStream_t stream, int wait) {
    cudaError_t error = ready_here();
    if (error) return error;
    /* Reading pages that nobody wrote costs nothing, writing them does. To the host's usual memory everything is copied,
     * to its pinned memory no more than to a card: there lie activations that were moved away, to come back. */
    if (bytes <= copy_limit() || !find_block(to, NULL)) memmove(to, from, bytes);
    stream_copy(stream, bytes);
    if (wait) stream_wait(stream);
    return cudaSuccess;
}
EXPORT cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    CALLED;
    return (void)kind, copy(to, from, bytes, stream, 0);
}
EXPORT cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    CALLED;
    return (void)kind, copy(to, from, bytes, NULL, 1);
}
EXPORT cudaError_t cudaMemcpyPeerAsync(void *to, int a, const void *from, int b, size_t bytes, cudaStream_t stream) {
    CALLED;
    return (void)a, (void)b, copy(to, from, bytes, stream, 0);
}
EXPORT cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                                     size_t height, enum cudaMemcpyKind kind, cudaStream_t stream) {
    CALLED;
    (void)kind;
    cudaError_t error = ready_here();
    if (error) return error;
    for (size_t row = 0; row < height && width * height <= copy_limit(); row++)
        memmove((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
    stream_copy(stream, width * height);
    return cudaSuccess;
}
EXPORT cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    CALLED;
    cudaError_t error = ready_here();
    if (error) return error;
    if (bytes <= copy_limit()) memset(to, value, bytes);
    stream_copy(stream, bytes);
    return cudaSuccess;
}
EXPORT cudaError_t cudaMemset(void *to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, NULL); }

/* ---- constants of kernels: nobody reads them */
static char constants[1 << 16] __attribute__((aligned(256)));
EXPORT cudaError_t cudaGetSymbolAddress(void **out, const void *symbol) { return (void)symbol, *out = constants, cudaSuccess; }

/* ---- the default pool, of which torch asks how much is taken */
EXPORT cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int ordinal) {
    *pool = (cudaMemPool_t)(size_t)(ordinal + 1);
    return cudaSuccess;
}
EXPORT cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value) {
    int card = visible_card((int)(size_t)pool - 1);
    memset(value, 0, 8);
    if (card < 0) return failed(cudaErrorInvalidValue);
    if (attribute == cudaMemPoolAttrReservedMemCurrent || attribute == cudaMemPoolAttrUsedMemCurrent)
        *(size_t *)value = ledger_used(card);
    if (attribute == cudaMemPoolAttrReservedMemHigh || attribute == cudaMemPoolAttrUsedMemHigh)
        *(size_t *)value = ledger_peak(card);
    return cudaSuccess;
}
