/* NCCL for processes of one host. What a rank gives is moved over a shared mapping, a piece at a time, while it waits
 * for the others: so ranks that disagree, or one that died, are an error and no wait for ever. Tensors larger than what
 * is copied to a card at all (CUDA_DOUBLE_COPY_MAX) are not moved: then ranks only wait for each other. */
#include "team.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

typedef struct { char text[128]; } ncclUniqueId;
enum what { ALL_REDUCE, REDUCE, BROADCAST, ALL_GATHER, REDUCE_SCATTER, SEND, RECEIVE };
static const char *const NAMES[] = {"ncclAllReduce", "ncclReduce", "ncclBroadcast", "ncclAllGather", "ncclReduceScatter",
                                    "ncclSend", "ncclRecv"};

struct work {
    ncclComm_t team;
    struct call call; /* call.root: the other rank of a send or receive */
    const char *from;
    char *to;
    cudaStream_t stream;
    size_t done;
    int finished;
};

/* ---- the library and its communicators */
EXPORT int ncclGetVersion(int *version) { return *version = 22907, NCCL_SUCCESS; }
EXPORT const char *ncclGetErrorString(int error) {
    switch (error) {
        case NCCL_SUCCESS: return "no error";
        case NCCL_CUDA_ERROR: return "unhandled cuda error";
        case NCCL_SYSTEM_ERROR: return "unhandled system error";
        case NCCL_INVALID_ARGUMENT: return "invalid argument";
        case NCCL_INVALID_USAGE: return "invalid usage";
        case NCCL_REMOTE_ERROR: return "remote process exited or there was a network error";
        default: return "internal error";
    }
}
EXPORT const char *ncclGetLastError(ncclComm_t team) { return (void)team, team_last_error(); }

EXPORT int ncclGetUniqueId(ncclUniqueId *out) {
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != sizeof random) return NCCL_SYSTEM_ERROR;
    memset(out, 0, sizeof *out);
    snprintf(out->text, sizeof out->text, "cuda-double-%d-%016lx%016lx", getpid(), random[0], random[1]);
    return NCCL_SUCCESS;
}
EXPORT int ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank, void *how) {
    CALLED;
    return (void)how, team_join(out, id.text, rank, ranks);
}
EXPORT int ncclCommInitRank(ncclComm_t *out, int ranks, ncclUniqueId id, int rank) { return ncclCommInitRankConfig(out, ranks, id, rank, NULL); }
EXPORT int ncclCommInitRankScalable(ncclComm_t *out, int ranks, int rank, int ids, ncclUniqueId *id, void *how) {
    return (void)ids, ncclCommInitRankConfig(out, ranks, id[0], rank, how);
}

/* Ranks of one colour become a team, in the order of their keys. */
EXPORT int ncclCommSplit(ncclComm_t team, int colour, int key, ncclComm_t *out, void *how) {
    CALLED;
    (void)how;
    *out = NULL;
    team->shared->rank[team->rank].colour = colour;
    team->shared->rank[team->rank].key = key;
    int error = team_barrier(team), rank = 0, ranks = 0;
    if (error) return error;
    for (int other = 0; other < team->ranks; other++) {
        if (team->shared->rank[other].colour != colour) continue;
        int64_t its = team->shared->rank[other].key;
        rank += its < key || (its == key && other < team->rank);
        ranks++;
    }
    if ((error = team_barrier(team))) return error; /* the next split may write its colours now */
    char id[128];
    snprintf(id, sizeof id, "%.90s-%d-%d", team->id, ++team->splits, colour);
    return colour < 0 ? NCCL_SUCCESS : team_join(out, id, rank, ranks);
}

EXPORT int ncclCommDestroy(ncclComm_t team) {
    CALLED;
    return team_leave(team), NCCL_SUCCESS;
}
/* Another thread may be waiting in the team: it is told, and the mapping stays. */
EXPORT int ncclCommAbort(ncclComm_t team) {
    CALLED;
    team_failed(team, NCCL_INTERNAL_ERROR, "the communicator was aborted");
    team_changed(team);
    return NCCL_SUCCESS;
}
EXPORT int ncclCommGetAsyncError(ncclComm_t team, int *error) { return *error = team->error, NCCL_SUCCESS; }
EXPORT int ncclCommCount(ncclComm_t team, int *ranks) { return *ranks = team->ranks, NCCL_SUCCESS; }
EXPORT int ncclCommUserRank(ncclComm_t team, int *rank) { return *rank = team->rank, NCCL_SUCCESS; }
EXPORT int ncclCommCuDevice(ncclComm_t team, int *ordinal) { return *ordinal = team->ordinal, NCCL_SUCCESS; }

/* ---- memory that NCCL allocates */
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *address);
EXPORT int ncclMemAlloc(void **out, size_t bytes) { return cudaMalloc(out, bytes) ? NCCL_CUDA_ERROR : NCCL_SUCCESS; }
EXPORT int ncclMemFree(void *address) { return cudaFree(address) ? NCCL_CUDA_ERROR : NCCL_SUCCESS; }

/* ---- operations of a caller's own, such as a sum of scaled numbers: the numbers are not scaled */
EXPORT int ncclRedOpCreatePreMulSum(int *out, void *scalar, int type, int where, ncclComm_t team) {
    return (void)scalar, (void)type, (void)where, (void)team, *out = 1 << 8, NCCL_SUCCESS;
}

/* ---- collectives */
static int moved(size_t bytes) { return bytes <= copy_limit(); }

/* All ranks come, and want the same. */
static int agree(ncclComm_t team, const struct call *call) {
    unsigned turn = team->collectives++ % 2;
    team->shared->rank[team->rank].call[turn] = *call;
    int error = team_barrier(team);
    for (int rank = 0; !error && rank < team->ranks; rank++) {
        const struct call *other = &team->shared->rank[rank].call[turn];
        if (!memcmp(other, call, sizeof *call)) continue;
        error = team_failed(team, NCCL_INVALID_USAGE, "rank %d calls %s of %zu items of type %d, rank %d %s of %zu of type %d",
                            team->rank, NAMES[call->what], call->count, call->type, rank, NAMES[other->what], other->count, other->type);
    }
    return error;
}

/* Each rank shows `from` (NULL: nothing) and takes what it wants of the others', a piece after the other. */
static int exchange(const struct work *work, const char *from, char *to, size_t bytes, void take(const struct work *, char *, size_t, size_t)) {
    ncclComm_t team = work->team;
    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t part = bytes - at < PIECE ? bytes - at : PIECE;
        if (from) memcpy(team->shared->rank[team->rank].piece, from + at, part);
        int error = team_barrier(team);
        if (error) return error;
        if (to) take(work, to + at, at, part);
        if ((error = team_barrier(team))) return error;
    }
    return NCCL_SUCCESS;
}

static void take_reduced(const struct work *work, char *to, size_t at, size_t part) {
    ncclComm_t team = work->team;
    int operation = work->call.operation <= AVERAGE ? work->call.operation : SUM, type = work->call.type;
    size_t count = part / item_bytes(type);
    (void)at;
    memcpy(to, team->shared->rank[0].piece, part);
    for (int rank = 1; rank < team->ranks; rank++) reduce(to, team->shared->rank[rank].piece, count, type, operation);
    if (operation == AVERAGE) divide(to, count, type, team->ranks);
}
static void take_roots(const struct work *work, char *to, size_t at, size_t part) {
    (void)at;
    memcpy(to, work->team->shared->rank[work->call.root].piece, part);
}
static void take_all(const struct work *work, char *to, size_t at, size_t part) {
    size_t bytes = work->call.count * item_bytes(work->call.type);
    (void)to;
    for (int rank = 0; rank < work->team->ranks; rank++)
        memcpy(work->to + (size_t)rank * bytes + at, work->team->shared->rank[rank].piece, part);
}

static int collective(const struct work *work) {
    ncclComm_t team = work->team;
    size_t bytes = work->call.count * item_bytes(work->call.type);
    int root = work->call.root == team->rank, error = agree(team, &work->call);
    if (error) return error;
    switch (work->call.what) {
        case ALL_REDUCE: return moved(bytes) ? exchange(work, work->from, work->to, bytes, take_reduced) : NCCL_SUCCESS;
        case REDUCE: return moved(bytes) ? exchange(work, work->from, root ? work->to : NULL, bytes, take_reduced) : NCCL_SUCCESS;
        case BROADCAST: return moved(bytes) ? exchange(work, root ? work->from : NULL, work->to, bytes, take_roots) : NCCL_SUCCESS;
        case ALL_GATHER:
            return moved(bytes * (size_t)team->ranks) ? exchange(work, work->from, work->to, bytes, take_all) : NCCL_SUCCESS;
        default: /* REDUCE_SCATTER: a rank's part after the other */
            for (int rank = 0; !error && rank < team->ranks && moved(bytes * (size_t)team->ranks); rank++)
                error = exchange(work, work->from + (size_t)rank * bytes, rank == team->rank ? work->to : NULL, bytes, take_reduced);
            return error;
    }
}

/* ---- sends and receives: as far as there is room, or bytes, in the channel between the two */
static int step(struct work *work) {
    ncclComm_t team = work->team;
    int sends = work->call.what == SEND, other = work->call.root;
    struct channel *channel = &team->shared->channel[sends ? team->rank : other][sends ? other : team->rank];
    size_t bytes = work->call.count * item_bytes(work->call.type);
    if (!moved(bytes)) bytes = 1; /* one byte says that the other was there */
    uint32_t written = __atomic_load_n(&channel->written, __ATOMIC_ACQUIRE), read = __atomic_load_n(&channel->read, __ATOMIC_ACQUIRE);
    uint32_t can = sends ? PIECE - (written - read) : written - read, did = 0;
    int real = moved(work->call.count * item_bytes(work->call.type));
    for (; did < can && work->done < bytes; did++, work->done++) {
        char *at = &channel->bytes[((sends ? written : read) + did) % PIECE];
        if (sends) *at = real ? work->from[work->done] : 0;
        else if (real) work->to[work->done] = *at;
    }
    if (did) {
        __atomic_add_fetch(sends ? &channel->written : &channel->read, did, __ATOMIC_RELEASE);
        team_changed(team);
    }
    work->finished = work->done == bytes;
    return did > 0;
}

static int pass_all(struct work *works, int count) {
    for (int waited = NCCL_SUCCESS;;) {
        struct work *waiting = NULL;
        int moving = 0;
        uint32_t tick = 0;
        for (int i = 0; i < count; i++) {
            struct work *work = &works[i];
            if (work->finished || work->call.what < SEND) continue;
            /* What is sent to one rank arrives in its order: only the first that waits for a channel goes on. */
            int behind = 0;
            for (int j = 0; j < i; j++)
                behind |= !works[j].finished && works[j].call.what == work->call.what && works[j].call.root == work->call.root && works[j].team == work->team;
            if (behind) continue;
            uint32_t before = __atomic_load_n(&work->team->shared->tick, __ATOMIC_SEQ_CST);
            moving |= step(work);
            if (!work->finished) waiting = work, tick = before;
        }
        if (!waiting && !moving) return NCCL_SUCCESS;
        if (moving) {
            waited = NCCL_SUCCESS;
            continue;
        }
        if (waited == HAS_ENDED) return team_lost(waiting->team, waiting->call.root);
        waited = team_wait(waiting->team, tick, waiting->call.root);
        if (waited && waited != HAS_ENDED) return waited;
    }
}

/* ---- groups: what is called between start and end happens at the end, sends and receives at the same time */
static __thread struct work *group;
static __thread int group_depth, group_count, group_room;

static int run(struct work *works, int count) {
    int error = pass_all(works, count);
    for (int i = 0; !error && i < count; i++) {
        if (works[i].call.what < SEND) error = collective(&works[i]);
        if (!error && launched(NAMES[works[i].call.what], works[i].stream)) error = NCCL_CUDA_ERROR;
        stream_copy(works[i].stream, works[i].call.count * item_bytes(works[i].call.type));
    }
    return error;
}

static int give(struct work work) {
    CALLED;
    if (!work.team) return NCCL_INVALID_ARGUMENT;
    if (work.team->error) return work.team->error;
    if (work.call.root < 0 || work.call.root >= work.team->ranks)
        return team_failed(NULL, NCCL_INVALID_ARGUMENT, "rank %d of %d ranks", work.call.root, work.team->ranks);
    if (!group_depth) return run(&work, 1);
    if (group_count == group_room) {
        group_room = group_room ? 2 * group_room : 64;
        group = realloc(group, (size_t)group_room * sizeof *group);
        if (!group) refuse("no memory for a group of %d calls", group_room);
    }
    group[group_count++] = work;
    return NCCL_SUCCESS;
}
EXPORT int ncclGroupStart(void) { return group_depth++, NCCL_SUCCESS; }
EXPORT int ncclGroupEnd(void) {
    if (!group_depth) return NCCL_INVALID_USAGE;
    if (--group_depth) return NCCL_SUCCESS;
    int count = group_count;
    group_count = 0;
    return run(group, count);
}

static struct call a_call(enum what what, size_t count, int type, int operation, int root) {
    struct call made;
    memset(&made, 0, sizeof made); /* calls are compared byte by byte */
    made.what = (int)what, made.type = type, made.operation = operation, made.root = root, made.count = count;
    return made;
}
EXPORT int ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, ncclComm_t team, cudaStream_t stream) {
    return give((struct work){team, a_call(ALL_REDUCE, count, type, operation, 0), from, to, stream, 0, 0});
}
EXPORT int ncclReduce(const void *from, void *to, size_t count, int type, int operation, int root, ncclComm_t team, cudaStream_t stream) {
    return give((struct work){team, a_call(REDUCE, count, type, operation, root), from, to, stream, 0, 0});
}
EXPORT int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, ncclComm_t team, cudaStream_t stream) {
    return give((struct work){team, a_call(BROADCAST, count, type, 0, root), from, to, stream, 0, 0});
}
EXPORT int ncclBcast(void *at, size_t count, int type, int root, ncclComm_t team, cudaStream_t stream) {
    return ncclBroadcast(at, at, count, type, root, team, stream);
}
EXPORT int ncclAllGather(const void *from, void *to, size_t count, int type, ncclComm_t team, cudaStream_t stream) {
    return give((struct work){team, a_call(ALL_GATHER, count, type, 0, 0), from, to, stream, 0, 0});
}
EXPORT int ncclReduceScatter(const void *from, void *to, size_t count, int type, int operation, ncclComm_t team, cudaStream_t stream) {
    return give((struct work){team, a_call(REDUCE_SCATTER, count, type, operation, 0), from, to, stream, 0, 0});
}
EXPORT int ncclSend(const void *from, size_t count, int type, int other, ncclComm_t team, cudaStream_t stream) {
    return give((struct work){team, a_call(SEND, count, type, 0, other), from, NULL, stream, 0, 0});
}
EXPORT int ncclRecv(void *to, size_t count, int type, int other, ncclComm_t team, cudaStream_t stream) {
    return give((struct work){team, a_call(RECEIVE, count, type, 0, other), NULL, to, stream, 0, 0});
}
EXPORT int ncclAlltoAll(const void *from, void *to, size_t count, int type, ncclComm_t team, cudaStream_t stream) {
    size_t bytes = count * item_bytes(type);
    int error = ncclGroupStart();
    for (int rank = 0; !error && rank < team->ranks; rank++) {
        error = ncclSend((const char *)from + (size_t)rank * bytes, count, type, rank, team, stream);
        if (!error) error = ncclRecv((char *)to + (size_t)rank * bytes, count, type, rank, team, stream);
    }
    int ended = ncclGroupEnd();
    return error ? error : ended;
}
