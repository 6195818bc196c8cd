/* What CUDA's headers take from crt/host_defines.h, which another wheel holds than they: words for its compiler alone. */
#ifndef CUDA_DOUBLE_HOST_DEFINES_H
#define CUDA_DOUBLE_HOST_DEFINES_H
#define __host__
#define __device__
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __cudart_builtin__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __builtin_align__(bytes) __attribute__((aligned(bytes)))
#endif
