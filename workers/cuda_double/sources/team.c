/* How ranks meet and wait for each other. A team's mapping is a file in /dev/shm that has no name once all have come. */
#include "team.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static __thread char last_error[512];

int team_failed(ncclComm_t team, int error, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(last_error, sizeof last_error, format, values);
    va_end(values);
    if (team && !team->error) team->error = error;
    return error;
}
const char *team_last_error(void) { return last_error; }

void team_changed(ncclComm_t team) {
    __atomic_add_fetch(&team->shared->tick, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &team->shared->tick, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

int team_wait(ncclComm_t team, uint32_t tick, int needed) {
    struct timespec a_while = {0, 200000000}; /* then look whether the other one still lives */
    syscall(SYS_futex, &team->shared->tick, FUTEX_WAIT, tick, &a_while, NULL, 0);
    int pid = team->shared->rank[needed].pid;
    return team->error ? team->error : pid && process_birth(pid) != team->shared->rank[needed].born ? HAS_ENDED : NCCL_SUCCESS;
}
int team_lost(ncclComm_t team, int rank) {
    return team_failed(team, NCCL_REMOTE_ERROR, "rank %d (process %d) has ended", rank, team->shared->rank[rank].pid);
}

int team_barrier(ncclComm_t team) {
    struct shared *shared = team->shared;
    uint32_t mine = ++team->phase;
    __atomic_store_n(&shared->rank[team->rank].phase, mine, __ATOMIC_SEQ_CST);
    team_changed(team);
    for (int rank = 0; rank < team->ranks; rank++)
        for (int waited = NCCL_SUCCESS;;) {
            uint32_t tick = __atomic_load_n(&shared->tick, __ATOMIC_SEQ_CST);
            if ((int32_t)(__atomic_load_n(&shared->rank[rank].phase, __ATOMIC_SEQ_CST) - mine) >= 0) break;
            if (waited == HAS_ENDED) return team_lost(team, rank); /* it did not come before it ended */
            waited = team_wait(team, tick, rank);
            if (waited && waited != HAS_ENDED) return waited;
        }
    return team->error;
}

/* Ranks that were killed before all had come leave a file. Its name begins with the process that made it. */
static void sweep(void) {
    DIR *folder = opendir("/dev/shm");
    if (!folder) return;
    for (struct dirent *entry; (entry = readdir(folder));) {
        int pid;
        if (sscanf(entry->d_name, "cuda-double-%d-", &pid) == 1 && !process_birth(pid)) unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
}

static void path_of(char *path, size_t room, const char *id) { snprintf(path, room, "/dev/shm/%.120s", id); }

int team_join(ncclComm_t *out, const char *id, int rank, int ranks) {
    char path[160];
    *out = NULL;
    if (ranks > MAX_RANKS) return team_failed(NULL, NCCL_INVALID_USAGE, "the CUDA double has %d ranks at most, not %d", MAX_RANKS, ranks);
    if (rank < 0 || rank >= ranks) return team_failed(NULL, NCCL_INVALID_ARGUMENT, "rank %d of %d ranks", rank, ranks);
    cudaError_t error = ready_here();
    if (error || !ledger_use(visible_card(current_ordinal), USE_NCCL))
        return team_failed(NULL, NCCL_CUDA_ERROR, "Cuda failure '%s'", error ? "no card" : "out of memory");
    struct team *team = calloc(1, sizeof *team);
    if (!team) return team_failed(NULL, NCCL_SYSTEM_ERROR, "no memory for a communicator");
    sweep();
    path_of(path, sizeof path, id);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof *team->shared)) {
        team_failed(NULL, NCCL_SYSTEM_ERROR, "%s can't be made: %s", path, strerror(errno));
        if (file >= 0) close(file);
        free(team);
        return NCCL_SYSTEM_ERROR;
    }
    team->shared = mmap(NULL, sizeof *team->shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (team->shared == MAP_FAILED) {
        free(team);
        return team_failed(NULL, NCCL_SYSTEM_ERROR, "%s can't be mapped: %s", path, strerror(errno));
    }
    snprintf(team->id, sizeof team->id, "%s", id);
    team->rank = rank;
    team->ranks = ranks;
    team->ordinal = current_ordinal;
    team->shared->rank[rank].born = process_birth(getpid());
    team->shared->rank[rank].pid = getpid();
    int failed_to_meet = team_barrier(team);
    unlink(path); /* all have mapped it: the first one to come here takes its name away */
    if (failed_to_meet) {
        team_leave(team);
        return failed_to_meet;
    }
    *out = team;
    return NCCL_SUCCESS;
}

void team_leave(ncclComm_t team) {
    munmap(team->shared, sizeof *team->shared);
    free(team);
}
