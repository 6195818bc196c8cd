/* Sums and the like of what ranks give, by type (ncclDataType_t). Halves are reduced as floats. */
#include "team.h"

#include <string.h>

enum { INT8, UINT8, INT32, UINT32, INT64, UINT64, FLOAT16, FLOAT32, FLOAT64, BFLOAT16, FLOAT8E4M3, FLOAT8E5M2 };

size_t item_bytes(int type) {
    switch (type) {
        case INT32:
        case UINT32:
        case FLOAT32: return 4;
        case INT64:
        case UINT64:
        case FLOAT64: return 8;
        case FLOAT16:
        case BFLOAT16: return 2;
        default: return 1;
    }
}

#define REDUCED(type, a, b) \
    (type)(operation == PRODUCT ? (a) * (b) : operation == MAXIMUM ? ((a) > (b) ? (a) : (b)) \
           : operation == MINIMUM ? ((a) < (b) ? (a) : (b)) : (a) + (b))
#define LOOP(type) \
    for (size_t i = 0; i < count; i++) ((type *)into)[i] = REDUCED(type, ((type *)into)[i], ((const type *)with)[i]); \
    return

static float from_bfloat(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}
static uint16_t to_bfloat(float value) { /* to the nearest, ties to even */
    uint32_t wide;
    memcpy(&wide, &value, 4);
    if (value != value) return 0x7fc0;
    return (uint16_t)((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
}

void reduce(void *into, const void *with, size_t count, int type, int operation) {
    switch (type) {
        case INT8: LOOP(int8_t);
        case INT32: LOOP(int32_t);
        case UINT32: LOOP(uint32_t);
        case INT64: LOOP(int64_t);
        case UINT64: LOOP(uint64_t);
        case FLOAT16: LOOP(_Float16);
        case FLOAT32: LOOP(float);
        case FLOAT64: LOOP(double);
        case BFLOAT16:
            for (size_t i = 0; i < count; i++) {
                float a = from_bfloat(((uint16_t *)into)[i]), b = from_bfloat(((const uint16_t *)with)[i]);
                ((uint16_t *)into)[i] = to_bfloat(REDUCED(float, a, b));
            }
            return;
        case FLOAT8E4M3:
        case FLOAT8E5M2: return; /* nobody reads them */
        default: LOOP(uint8_t);
    }
}

#define SHARE(type) \
    for (size_t i = 0; i < count; i++) ((type *)into)[i] = (type)(((type *)into)[i] / (type)by); \
    return

void divide(void *into, size_t count, int type, int by) {
    switch (type) {
        case INT8: SHARE(int8_t);
        case INT32: SHARE(int32_t);
        case UINT32: SHARE(uint32_t);
        case INT64: SHARE(int64_t);
        case UINT64: SHARE(uint64_t);
        case FLOAT16: SHARE(_Float16);
        case FLOAT32: SHARE(float);
        case FLOAT64: SHARE(double);
        case BFLOAT16:
            for (size_t i = 0; i < count; i++)
                ((uint16_t *)into)[i] = to_bfloat(from_bfloat(((uint16_t *)into)[i]) / (float)by);
            return;
        case FLOAT8E4M3:
        case FLOAT8E5M2: return;
        default: SHARE(uint8_t);
    }
}
