/* How often which function was called and which kernel launched, in $CUDA_DOUBLE_TRACE/<pid>.trace. The counts lie in
 * a mapping of the file, so that they are whole however the process ends: records of 512 bytes, a count of 8 bytes and
 * a text "kind name" (traces.py reads them). */
#include "double.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct record {
    uint64_t count;
    char what[504];
};
enum { RECORDS = 8192 };

int tracing;
static struct record *records;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static void open_records(void) {
    const char *folder = getenv("CUDA_DOUBLE_TRACE");
    char path[4096];
    records = NULL;
    tracing = folder && *folder;
    if (!tracing) return;
    snprintf(path, sizeof path, "%s/%d.trace", folder, getpid());
    mkdir(folder, 0700);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof *records * RECORDS))
        refuse("CUDA_DOUBLE_TRACE %s is no folder to write to: %s", folder, strerror(errno));
    records = mmap(NULL, sizeof *records * RECORDS, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (records == MAP_FAILED) refuse("CUDA_DOUBLE_TRACE %s can't be mapped: %s", path, strerror(errno));
}

static void after_fork(void) {
    pthread_mutex_init(&guard, NULL);
    if (tracing) open_records();
}

__attribute__((constructor)) static void start(void) {
    open_records();
    pthread_atfork(NULL, NULL, after_fork);
}

void trace(const char *kind, const char *name) {
    char what[sizeof records->what];
    snprintf(what, sizeof what, "%s %s", kind, name);
    uint64_t hash = 1469598103934665603u;
    for (const char *at = what; *at; at++) hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    pthread_mutex_lock(&guard);
    for (size_t tried = 0; tried < RECORDS; tried++) { /* a hash table with open places: it begins empty */
        struct record *at = &records[(hash + tried) % RECORDS];
        if (!at->count) strcpy(at->what, what);
        else if (strcmp(at->what, what)) continue;
        at->count++;
        break;
    }
    pthread_mutex_unlock(&guard);
}
