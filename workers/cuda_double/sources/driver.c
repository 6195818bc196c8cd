/* The driver beside memory and kernels: looked up by name by the runtime's users, devices, contexts, pointers. */
#include "runtime.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* ---- entry points: torch, Triton and bitsandbytes ask for them by name, without the version that cuda.h adds */
static CUresult unknown_entry(void) { return CUDA_ERROR_NOT_SUPPORTED; }

static void *entry(const char *name) {
    static void *library;
    Dl_info here;
    char versioned[160];
    if (!library && dladdr((void *)unknown_entry, &here)) library = dlopen(here.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    void *found = library ? dlsym(library, name) : NULL;
    for (int version = 2; !found && version <= 3; version++) {
        snprintf(versioned, sizeof versioned, "%s_v%d", name, version);
        found = library ? dlsym(library, versioned) : NULL;
    }
    if (!found && tracing) trace("missing", name);
    return found ? found : (void *)unknown_entry;
}
EXPORT cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned version, unsigned long long flags,
                                                    enum cudaDriverEntryPointQueryResult *status) {
    (void)version, (void)flags;
    *out = entry(name);
    if (status) *status = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
EXPORT cudaError_t cudaGetDriverEntryPoint(const char *name, void **out, unsigned long long flags, enum cudaDriverEntryPointQueryResult *status) {
    return cudaGetDriverEntryPointByVersion(name, out, 0, flags, status);
}
EXPORT CUresult cuGetProcAddress_v2(const char *name, void **out, int version, cuuint64_t flags, CUdriverProcAddressQueryResult *status) {
    (void)version, (void)flags;
    *out = entry(name);
    if (status) *status = CU_GET_PROC_ADDRESS_SUCCESS;
    return CUDA_SUCCESS;
}

/* ---- devices */
EXPORT CUresult cuInit(unsigned flags) {
    CALLED;
    return (void)flags, visible_cards() ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}
EXPORT CUresult cuDriverGetVersion(int *version) { return *version = 13000, CUDA_SUCCESS; }
EXPORT CUresult cuDeviceGetCount(int *count) { return *count = visible_cards(), CUDA_SUCCESS; }
EXPORT CUresult cuDeviceGet(CUdevice *out, int ordinal) {
    *out = ordinal;
    return visible_card(ordinal) < 0 ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetName(char *text, int room, CUdevice device) {
    const struct card *card = host_card(visible_card(device));
    if (!card) return CUDA_ERROR_INVALID_DEVICE;
    snprintf(text, (size_t)room, "NVIDIA %s", card->type.name);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    const struct card *card = host_card(visible_card(device));
    if (!card) return CUDA_ERROR_INVALID_DEVICE;
    *bytes = card->type.usable;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetUuid_v2(CUuuid *out, CUdevice device) {
    const struct card *card = host_card(visible_card(device));
    if (!card) return CUDA_ERROR_INVALID_DEVICE;
    memcpy(out->bytes, card->uuid, 16);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    if (visible_card(device) < 0) return CUDA_ERROR_INVALID_DEVICE;
    *value = device_attribute(device, (int)attribute);
    return CUDA_SUCCESS;
}

/* ---- contexts: a card's primary one is its ordinal plus one */
static CUcontext context_of(int ordinal) { return (CUcontext)(size_t)(ordinal + 1); }

EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    int card = visible_card(device);
    if (flags) *flags = 0;
    *active = card >= 0 && ledger_uses(card, USE_CONTEXT);
    return card < 0 ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
    cudaError_t error = ready(device);
    if (!error) *out = context_of(device);
    return as_result(error);
}
EXPORT CUresult cuCtxGetCurrent(CUcontext *out) {
    int card = visible_card(current_ordinal);
    *out = card >= 0 && ledger_uses(card, USE_CONTEXT) ? context_of(current_ordinal) : NULL;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
    if (context) current_ordinal = (int)(size_t)context - 1;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) { return cuCtxSetCurrent(context); }
EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *out) {
    if (out) *out = context_of(current_ordinal);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxGetDevice(CUdevice *out) { return *out = current_ordinal, CUDA_SUCCESS; }
EXPORT CUresult cuCtxSynchronize(void) { return as_result(ready_here()); }

/* ---- errors: their texts are the runtime's */
const char *cudaGetErrorString(cudaError_t error);
const char *cudaGetErrorName(cudaError_t error);
EXPORT CUresult cuGetErrorString(CUresult error, const char **text) { return *text = cudaGetErrorString((cudaError_t)error), CUDA_SUCCESS; }
EXPORT CUresult cuGetErrorName(CUresult error, const char **text) { return *text = cudaGetErrorName((cudaError_t)error), CUDA_SUCCESS; }

/* ---- pointers */
EXPORT CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    struct block block;
    if (!find_block((void *)address, &block)) return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT: return *(CUcontext *)value = context_of(block.ordinal), CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: return *(CUdeviceptr *)value = address, CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: return *(int *)value = block.ordinal, CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            *(unsigned *)value = block.ordinal < 0 ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
            return CUDA_SUCCESS;
        default: return *(int *)value = 0, CUDA_SUCCESS;
    }
}
EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr *begin, size_t *bytes, CUdeviceptr address) {
    struct block block;
    if (!find_block((void *)address, &block) || block.ordinal < 0) return CUDA_ERROR_INVALID_VALUE;
    if (begin) *begin = (CUdeviceptr)block.begin;
    if (bytes) *bytes = block.bytes;
    return CUDA_SUCCESS;
}
