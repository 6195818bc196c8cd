/* Virtual memory management of the driver: what torch's expandable segments are made of. Addresses are reserved, pieces
 * of memory are made, which is what is charged, and mapped to them. */
#include "runtime.h"

#include <stdlib.h>
#include <sys/mman.h>

struct piece {
    size_t bytes;
    int ordinal, references; /* by its maker and by each mapping; given back when there are none */
};

EXPORT CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *of, CUmemAllocationGranularity_flags how) {
    return (void)of, (void)how, *bytes = 2 * MIB, CUDA_SUCCESS;
}

EXPORT CUresult cuMemAddressReserve(CUdeviceptr *out, size_t bytes, size_t alignment, CUdeviceptr wish, unsigned long long flags) {
    CALLED;
    (void)alignment, (void)wish, (void)flags;
    *out = (CUdeviceptr)reserve_addresses(bytes);
    return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT CUresult cuMemAddressFree(CUdeviceptr begin, size_t bytes) {
    CALLED;
    munmap((void *)begin, bytes);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle *out, size_t bytes, const CUmemAllocationProp *of, unsigned long long flags) {
    CALLED;
    (void)flags;
    int ordinal = of->location.type == CU_MEM_LOCATION_TYPE_DEVICE ? of->location.id : current_ordinal;
    cudaError_t error = ready(ordinal);
    if (error) return as_result(error);
    int card = visible_card(ordinal);
    if (segments_refused(card)) return CUDA_ERROR_NOT_SUPPORTED;
    struct piece *piece = malloc(sizeof *piece);
    if (!piece || allocation_fails(card) || !ledger_charge(card, bytes)) {
        free(piece);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *piece = (struct piece){bytes, ordinal, 1};
    *out = (CUmemGenericAllocationHandle)piece;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
    CALLED;
    struct piece *piece = (struct piece *)handle;
    if (__atomic_sub_fetch(&piece->references, 1, __ATOMIC_ACQ_REL)) return CUDA_SUCCESS;
    ledger_release(visible_card(piece->ordinal), piece->bytes);
    free(piece);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemMap(CUdeviceptr begin, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags) {
    CALLED;
    (void)offset, (void)flags;
    struct piece *piece = (struct piece *)handle;
    __atomic_add_fetch(&piece->references, 1, __ATOMIC_ACQ_REL);
    /* The block's charge holds the piece: it is counted there, not in the block. */
    add_block((char *)begin, bytes, (size_t)piece, piece->ordinal);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemUnmap(CUdeviceptr begin, size_t bytes) {
    CALLED;
    struct block block;
    char *at = (char *)begin;
    while (at < (char *)begin + bytes) {
        if (!find_block(at, &block)) return CUDA_ERROR_INVALID_VALUE;
        at = block.begin + block.bytes;
        cuMemRelease((CUmemGenericAllocationHandle)block.charged);
    }
    take_blocks((char *)begin, bytes);
    madvise((void *)begin, bytes, MADV_DONTNEED);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemSetAccess(CUdeviceptr begin, size_t bytes, const CUmemAccessDesc *who, size_t count) {
    return (void)begin, (void)bytes, (void)who, (void)count, CUDA_SUCCESS;
}

EXPORT CUresult cuMemsetD32Async(CUdeviceptr begin, unsigned value, size_t count, CUstream stream) {
    CALLED;
    cudaError_t error = ready_here();
    if (error) return as_result(error);
    if (count * 4 <= copy_limit())
        for (size_t i = 0; i < count; i++) ((unsigned *)begin)[i] = value;
    stream_copy(stream, count * 4);
    return CUDA_SUCCESS;
}
