/* cuBLAS, cuDNN and NVRTC, as far as callers need more than "done": handles, versions, and the kernels they stand for.
 * What their first use adds to a process's context is charged with their first handle. */
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

static int handle(void **out, int no_memory) {
    *out = calloc(1, 64);
    return *out ? 0 : no_memory;
}
#define HANDLE(make, drop) \
    EXPORT int make(void **out) { \
        CALLED; \
        return handle(out, 3); \
    } \
    EXPORT int drop(void *of) { return free(of), 0; }

/* ---- cuBLAS. 3: CUBLAS_STATUS_ALLOC_FAILED, 13: CUBLAS_STATUS_EXECUTION_FAILED */
static int library_handle(void **out, enum use what, int no_memory) {
    if (ready_here() || !ledger_use(visible_card(current_ordinal), what)) return no_memory;
    return handle(out, no_memory);
}
static int product(const char *name, cudaStream_t stream) { return launched(name, stream) ? 13 : 0; }

struct blas { /* a handle: 64 bytes of calloc */
    cudaStream_t stream;
    int math_mode;
};
EXPORT int cublasCreate_v2(void **out) {
    CALLED;
    return library_handle(out, USE_BLAS, 3);
}
EXPORT int cublasDestroy_v2(void *of) { return free(of), 0; }
EXPORT int cublasSetStream_v2(struct blas *of, cudaStream_t stream) { return of->stream = stream, 0; }
EXPORT int cublasGetStream_v2(struct blas *of, cudaStream_t *stream) { return *stream = of->stream, 0; }
EXPORT int cublasSetMathMode(struct blas *of, int mode) { return of->math_mode = mode, 0; }
EXPORT int cublasGetMathMode(struct blas *of, int *mode) { return *mode = of->math_mode, 0; }
EXPORT int cublasGetPointerMode_v2(void *of, int *mode) { return (void)of, *mode = 0, 0; }
EXPORT int cublasGemmEx(struct blas *of) { return product("cublasGemmEx", of->stream); }
EXPORT int cublasSgemm_v2(struct blas *of) { return product("cublasSgemm", of->stream); }
EXPORT int cublasDgemm_v2(struct blas *of) { return product("cublasDgemm", of->stream); }
EXPORT int cublasGemmStridedBatchedEx(struct blas *of) { return product("cublasGemmStridedBatchedEx", of->stream); }
EXPORT int cublasSgemmStridedBatched(struct blas *of) { return product("cublasSgemmStridedBatched", of->stream); }

/* ---- cuBLASLt */
EXPORT int cublasLtCreate(void **out) {
    CALLED;
    return library_handle(out, USE_BLAS, 3);
}
EXPORT int cublasLtDestroy(void *of) { return free(of), 0; }
EXPORT size_t cublasLtGetVersion(void) { return 130101; }
HANDLE(cublasLtMatmulDescCreate, cublasLtMatmulDescDestroy)
HANDLE(cublasLtMatmulPreferenceCreate, cublasLtMatmulPreferenceDestroy)
HANDLE(cublasLtMatrixLayoutCreate, cublasLtMatrixLayoutDestroy)
struct found { /* cublasLtMatmulHeuristicResult_t */
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};
EXPORT int cublasLtMatmulAlgoGetHeuristic(void *of, void *how, void *a, void *b, void *c, void *d, void *wish, int want,
                                          struct found *out, int *got) {
    CALLED;
    (void)of, (void)how, (void)a, (void)b, (void)c, (void)d, (void)wish, (void)want;
    memset(out, 0, sizeof *out); /* one that takes no workspace; torch allocates its own before it asks */
    out->waves = 1;
    *got = 1;
    return 0;
}
EXPORT int cublasLtMatmul(void *of, void *how, void *alpha, void *a, void *layout_a, void *b, void *layout_b, void *beta, void *c,
                          void *layout_c, void *d, void *layout_d, void *algorithm, void *workspace, size_t bytes,
                          cudaStream_t stream) {
    (void)of, (void)how, (void)alpha, (void)a, (void)layout_a, (void)b, (void)layout_b, (void)beta, (void)c;
    (void)layout_c, (void)d, (void)layout_d, (void)algorithm, (void)workspace, (void)bytes;
    return product("cublasLtMatmul", stream);
}

/* ---- cuDNN 9.20. 4000: CUDNN_STATUS_INTERNAL_ERROR of its allocation kind */
EXPORT size_t cudnnGetVersion(void) { return 92000; }
EXPORT size_t cudnnGetCudartVersion(void) { return 13000; }
EXPORT int cudnnGetProperty(int which, int *value) { return *value = which == 0 ? 9 : which == 1 ? 20 : 0, 0; }
EXPORT int cudnnCreate(void **out) {
    CALLED;
    return library_handle(out, USE_DNN, 4000);
}
EXPORT int cudnnDestroy(void *of) { return free(of), 0; }
EXPORT const char *cudnnGetErrorString(int error) { return error ? "cuDNN of the CUDA double: error" : "success"; }
EXPORT void cudnnGetLastErrorString(char *text, size_t room) {
    if (room) *text = 0;
}
/* The graph API, as far as cudnn-frontend's attention needs it: one engine without notes or knobs, and a plan that asks
 * for no workspace beyond what the frontend, which is compiled into torch, asks for itself. */
EXPORT int cudnnBackendCreateDescriptor(int type, void **out) {
    CALLED;
    return (void)type, handle(out, 4000);
}
EXPORT int cudnnBackendDestroyDescriptor(void *of) { return free(of), 0; }
EXPORT int cudnnBackendGetAttribute(void *of, int name, int type, int64_t want, int64_t *got, void *out) {
    enum { ENGINEHEUR_RESULTS = 202, ENGINECFG_ENGINE = 300, INT64 = 3, INT32 = 23 };
    (void)of;
    if (got) *got = name == ENGINEHEUR_RESULTS || name == ENGINECFG_ENGINE || type == INT64 || type == INT32;
    if (out && want > 0 && type == INT64) *(int64_t *)out = 0;
    if (out && want > 0 && type == INT32) *(int32_t *)out = 0;
    return 0;
}
EXPORT int cudnnBackendExecute(void *of, void *plan, void *pack) {
    return (void)of, (void)plan, (void)pack, launched("cudnnBackendExecute", NULL) ? 4000 : 0;
}

/* ---- texts of errors: a caller prints them */
EXPORT const char *cusparseGetErrorString(int error) { return error ? "cuSPARSE of the CUDA double: error" : "success"; }
EXPORT const char *nvrtcGetErrorString(int error) { return error ? "NVRTC of the CUDA double: error" : "success"; }

/* ---- NVRTC: programs compile to nothing */
EXPORT int nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0, 0; }
EXPORT int nvrtcCreateProgram(void **out) { return handle(out, 1); }
EXPORT int nvrtcDestroyProgram(void **of) { return free(*of), *of = NULL, 0; }
EXPORT int nvrtcGetCUBINSize(void *of, size_t *bytes) { return (void)of, *bytes = 64, 0; }
EXPORT int nvrtcGetPTXSize(void *of, size_t *bytes) { return (void)of, *bytes = 64, 0; }
EXPORT int nvrtcGetCUBIN(void *of, char *out) { return (void)of, memset(out, 0, 64), 0; }
EXPORT int nvrtcGetPTX(void *of, char *out) { return (void)of, memset(out, 0, 64), 0; }
EXPORT int nvrtcGetProgramLogSize(void *of, size_t *bytes) { return (void)of, *bytes = 1, 0; }
EXPORT int nvrtcGetProgramLog(void *of, char *out) { return (void)of, *out = 0, 0; }
EXPORT int nvrtcGetLoweredName(void *of, const char *name, const char **out) { return (void)of, *out = name, 0; }
