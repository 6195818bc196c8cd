/* Ranks of a communicator: processes of one host, with a shared mapping between them. */
#ifndef CUDA_DOUBLE_TEAM_H
#define CUDA_DOUBLE_TEAM_H
#include "runtime.h"

enum { MAX_RANKS = 32, PIECE = 1 << 16 };
/* ncclResult_t */
enum { NCCL_SUCCESS = 0, NCCL_CUDA_ERROR = 1, NCCL_SYSTEM_ERROR = 2, NCCL_INTERNAL_ERROR = 3, NCCL_INVALID_ARGUMENT = 4,
       NCCL_INVALID_USAGE = 5, NCCL_REMOTE_ERROR = 6 };

struct call { /* what a rank wants of a collective; all must want the same */
    int what, type, operation, root;
    size_t count;
};
struct channel { /* from one rank to another: bytes that were written and not read yet */
    uint32_t written, read;
    char bytes[PIECE];
};
struct shared {
    uint32_t tick; /* changes with everything that somebody may wait for */
    struct {
        int pid;
        unsigned long long born;
        uint32_t phase; /* how many barriers the rank has come to */
        int64_t colour, key;
        struct call call[2]; /* of this collective and the next: a rank may be there while another still reads */
        char piece[PIECE];
    } rank[MAX_RANKS];
    struct channel channel[MAX_RANKS][MAX_RANKS]; /* [from][to]; pages that nobody touches cost nothing */
};

typedef struct team {
    struct shared *shared;
    char id[128];
    int rank, ranks, ordinal, splits;
    unsigned collectives;
    uint32_t phase;
    volatile int error; /* an ncclResult_t, for all that follows; set by an abort from another thread too */
} *ncclComm_t;

/* All return an ncclResult_t. */
int team_join(ncclComm_t *out, const char *id, int rank, int ranks);
void team_leave(ncclComm_t team);
int team_barrier(ncclComm_t team);
void team_changed(ncclComm_t team);
/* Waits for a change after `tick` was read. HAS_ENDED: the rank that is needed did, perhaps after it gave what is wanted:
 * look once more, then say that it is lost. */
enum { HAS_ENDED = -1 };
int team_wait(ncclComm_t team, uint32_t tick, int needed_rank);
int team_lost(ncclComm_t team, int rank);
int team_failed(ncclComm_t team, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
const char *team_last_error(void);

/* reduce.c: into[i] = into[i] op with[i] for all items of a type; divide: by the number of ranks, for averages. */
enum { SUM, PRODUCT, MAXIMUM, MINIMUM, AVERAGE };
size_t item_bytes(int type);
void reduce(void *into, const void *with, size_t count, int type, int operation);
void divide(void *into, size_t count, int type, int by);
#endif
