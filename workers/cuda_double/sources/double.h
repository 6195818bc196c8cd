/* What the parts of the CUDA double share. Nothing here needs NVIDIA's headers: the NVML part is built without them. */
#ifndef CUDA_DOUBLE_H
#define CUDA_DOUBLE_H
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define MIB ((size_t)1 << 20)
enum { MAX_CARDS = 16, MAX_HOLDERS = 256, UUID_TEXT = 41 };

/* One type of card; the table is written by library.py from jobs/cards.py and cards.py. Sizes in bytes. memory: as NVML
 * reports it; usable: what processes can have of it; context: what a process takes by using it at all, blas, dnn and
 * nccl what the first use of such a library adds; binary: the architecture of torch's kernels that run on it. */
struct card_type {
    const char *key, *name;
    size_t memory, usable, context, blas, dnn, nccl;
    int major, minor, binary, processors, threads, bus_bits, clusters;
    size_t l2, shared_block, shared_processor;
};

struct card {
    struct card_type type;
    unsigned char uuid[16];
    char uuid_text[UUID_TEXT]; /* GPU-... */
};

/* cards.c: the host's cards (CUDA_DOUBLE_CARDS), and those a process may see (CUDA_VISIBLE_DEVICES), by index. */
extern const struct card_type CARD_TYPES[];
extern const size_t CARD_TYPE_COUNT;
const struct card *host_card(int index);
int host_cards(void);
int visible_cards(void);       /* reads CUDA_VISIBLE_DEVICES at its first call, as the driver does */
int visible_card(int ordinal); /* index among the host's cards; -1: no such ordinal */

/* Says why the double can't go on, and ends the process: a wrong figure would be worse. */
_Noreturn void refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
size_t variable_number(const char *name, size_t usual); /* an environment variable that holds a number */

/* ledger.c: memory of the host's cards over all processes that share CUDA_DOUBLE_LEDGER. `card` is a host index. */
enum use { USE_CONTEXT = 1, USE_BLAS = 2, USE_DNN = 4, USE_NCCL = 8 };
struct holding {
    int pid;
    size_t bytes;
};
int ledger_charge(int card, size_t bytes); /* 0: doesn't fit */
void ledger_release(int card, size_t bytes);
int ledger_use(int card, enum use what); /* charges the context or a library's share once a process; 0: doesn't fit */
int ledger_uses(int card, enum use what);
void ledger_managed(int card, long long bytes); /* memory that the driver moves to the host when room is wanted */
size_t ledger_used(int card);
int ledger_holdings(int card, struct holding *out, int room); /* how many there are */
size_t ledger_peak(int card);                                 /* of this process, its context included */
/* When a process was born, in clock ticks since boot; 0: it has ended, or is a zombie, which holds no memory. */
unsigned long long process_birth(int pid);

/* trace.c: how often what was called or launched (CUDA_DOUBLE_TRACE). */
extern int tracing;
void trace(const char *kind, const char *name);
#define CALLED \
    do { \
        if (tracing) trace("call", __func__); \
    } while (0)

/* faults.c: what is to go wrong (CUDA_DOUBLE_FAULTS). */
int card_lost(int card);
int allocation_fails(int card); /* asked once an allocation */
int segments_refused(int card);
void count_launch(void);

#endif
