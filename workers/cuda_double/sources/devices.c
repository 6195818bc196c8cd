/* Cards as CUDA shows them: properties, attributes, the current one; errors. */
#include "runtime.h"

#include <stdio.h>
#include <string.h>

__thread int current_ordinal;
static __thread cudaError_t last_error;

cudaError_t failed(cudaError_t error) {
    last_error = error;
    return error;
}

cudaError_t ready(int ordinal) {
    int card = visible_card(ordinal);
    if (card < 0) return failed(visible_cards() ? cudaErrorInvalidDevice : cudaErrorNoDevice);
    if (card_lost(card)) return failed(cudaErrorUnknown); /* what "GPU has fallen off the bus" (Xid 79) looks like */
    return ledger_use(card, USE_CONTEXT) ? cudaSuccess : failed(cudaErrorMemoryAllocation);
}

/* ---- which cards there are. None of these makes a context. */
EXPORT cudaError_t cudaGetDeviceCount(int *count) {
    CALLED;
    *count = visible_cards();
    return *count ? cudaSuccess : failed(cudaErrorNoDevice);
}
EXPORT cudaError_t cudaGetDevice(int *ordinal) {
    *ordinal = current_ordinal;
    return visible_cards() ? cudaSuccess : failed(cudaErrorNoDevice);
}
/* Since CUDA 12 choosing a card makes its context. */
EXPORT cudaError_t cudaSetDevice(int ordinal) {
    cudaError_t error = ready(ordinal);
    if (!error) current_ordinal = ordinal;
    return error;
}
EXPORT cudaError_t cudaDriverGetVersion(int *version) { return *version = 13000, cudaSuccess; }
EXPORT cudaError_t cudaRuntimeGetVersion(int *version) { return *version = 13000, cudaSuccess; }

/* ---- what they are */
static const struct card_type *type_of(int ordinal) {
    const struct card *card = host_card(visible_card(ordinal));
    return card ? &card->type : NULL;
}

EXPORT cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *made, int ordinal) {
    CALLED;
    const struct card_type *type = type_of(ordinal);
    if (!type) return failed(cudaErrorInvalidDevice);
    memset(made, 0, sizeof *made);
    snprintf(made->name, sizeof made->name, "NVIDIA %s", type->name);
    memcpy(made->uuid.bytes, host_card(visible_card(ordinal))->uuid, 16);
    made->totalGlobalMem = type->usable;
    made->sharedMemPerBlock = 49152;
    made->regsPerBlock = made->regsPerMultiprocessor = 65536;
    made->warpSize = 32;
    made->memPitch = 2147483647;
    made->maxThreadsPerBlock = 1024;
    made->maxThreadsDim[0] = made->maxThreadsDim[1] = 1024;
    made->maxThreadsDim[2] = 64;
    made->maxGridSize[0] = 2147483647;
    made->maxGridSize[1] = made->maxGridSize[2] = 65535;
    made->totalConstMem = 65536;
    made->major = type->major;
    made->minor = type->minor;
    made->textureAlignment = 512;
    made->texturePitchAlignment = 32;
    made->multiProcessorCount = type->processors;
    made->canMapHostMemory = made->concurrentKernels = made->unifiedAddressing = made->managedMemory = 1;
    made->asyncEngineCount = 2;
    made->memoryBusWidth = type->bus_bits;
    made->l2CacheSize = (int)type->l2;
    made->persistingL2CacheMaxSize = (int)(type->l2 / 2);
    made->maxThreadsPerMultiProcessor = type->threads;
    made->streamPrioritiesSupported = made->globalL1CacheSupported = made->localL1CacheSupported = 1;
    made->sharedMemPerMultiprocessor = type->shared_processor;
    made->sharedMemPerBlockOptin = type->shared_block;
    made->maxBlocksPerMultiProcessor = type->threads / 64;
    made->reservedSharedMemPerBlock = 1024;
    made->cooperativeLaunch = made->computePreemptionSupported = 1;
    made->memoryPoolsSupported = made->concurrentManagedAccess = 1;
    made->clusterLaunch = type->clusters;
    made->pciBusID = 1 + visible_card(ordinal);
    return cudaSuccess;
}

/* The runtime's and the driver's attributes have the same numbers. */
int device_attribute(int ordinal, int attribute) {
    const struct card_type *type = type_of(ordinal);
    if (!type) return 0;
    switch (attribute) {
        case cudaDevAttrMaxThreadsPerBlock:
        case cudaDevAttrMaxBlockDimX:
        case cudaDevAttrMaxBlockDimY:
        case cudaDevAttrReservedSharedMemoryPerBlock: return 1024;
        case cudaDevAttrMaxBlockDimZ: return 64;
        case cudaDevAttrMaxGridDimX: return 2147483647;
        case cudaDevAttrMaxGridDimY:
        case cudaDevAttrMaxGridDimZ: return 65535;
        case cudaDevAttrMaxSharedMemoryPerBlock: return 49152;
        case cudaDevAttrWarpSize: return 32;
        case cudaDevAttrMaxRegistersPerBlock:
        case cudaDevAttrMaxRegistersPerMultiprocessor: return 65536;
        case cudaDevAttrMultiProcessorCount: return type->processors;
        case cudaDevAttrMaxThreadsPerMultiProcessor: return type->threads;
        case cudaDevAttrComputeCapabilityMajor: return type->major;
        case cudaDevAttrComputeCapabilityMinor: return type->minor;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return (int)type->shared_processor;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: return (int)type->shared_block;
        case cudaDevAttrL2CacheSize: return (int)type->l2;
        case cudaDevAttrGlobalMemoryBusWidth: return type->bus_bits;
        case cudaDevAttrMemoryClockRate:
        case cudaDevAttrClockRate: return 1000000;
        case cudaDevAttrPciBusId: return 1 + visible_card(ordinal);
        case cudaDevAttrUnifiedAddressing:
        case cudaDevAttrCooperativeLaunch:
        case cudaDevAttrMemoryPoolsSupported:
        case cudaDevAttrConcurrentKernels:
        case cudaDevAttrCanMapHostMemory:
        case cudaDevAttrManagedMemory:
        case cudaDevAttrConcurrentManagedAccess:
        case cudaDevAttrStreamPrioritiesSupported:
        case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: return 1;
        default: return 0;
    }
}
EXPORT cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int ordinal) {
    CALLED;
    if (!type_of(ordinal)) return failed(cudaErrorInvalidDevice);
    *value = device_attribute(ordinal, (int)attribute);
    return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetPCIBusId(char *text, int room, int ordinal) {
    snprintf(text, (size_t)room, "0000:%02x:00.0", 1 + visible_card(ordinal));
    return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}
/* No card reads another's memory: what is on two cards is copied by way of the host. */
EXPORT cudaError_t cudaDeviceCanAccessPeer(int *can, int a, int b) { return (void)a, (void)b, *can = 0, cudaSuccess; }
EXPORT cudaError_t cudaDeviceEnablePeerAccess(int a, unsigned flags) {
    return (void)a, (void)flags, failed(cudaErrorPeerAccessUnsupported);
}

/* ---- errors */
EXPORT cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
EXPORT cudaError_t cudaPeekAtLastError(void) { return last_error; }

EXPORT const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "no error";
        case cudaErrorInvalidValue: return "invalid argument";
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorNoDevice: return "no CUDA-capable device is detected";
        case cudaErrorInvalidDevice: return "invalid device ordinal";
        case cudaErrorNotReady: return "device not ready";
        case cudaErrorPeerAccessUnsupported: return "peer access is not supported between these two devices";
        case cudaErrorNotSupported: return "operation not supported";
        default: return "unknown error";
    }
}
EXPORT const char *cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "cudaSuccess";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorNoDevice: return "cudaErrorNoDevice";
        case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
        case cudaErrorNotReady: return "cudaErrorNotReady";
        case cudaErrorPeerAccessUnsupported: return "cudaErrorPeerAccessUnsupported";
        case cudaErrorNotSupported: return "cudaErrorNotSupported";
        default: return "cudaErrorUnknown";
    }
}
