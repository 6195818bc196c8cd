/* What is to go wrong, and when. CUDA_DOUBLE_FAULTS holds entries apart by ';' or newlines, or is the path of a file
 * that holds them and is read again when it changes:
 *   lost card=1 launch=500     the card is gone once this process has launched 500 kernels; launch=0, or none: at once
 *   oom card=0 allocation=12   the process's 12th allocation on the card finds no room
 *   oom card=0 launch=500      so does the first one after 500 kernels
 *   fixed card=0               the driver has no virtual memory management there: torch's segments can't expand
 *   nan step=3                 from the third optimizer step on, numbers are not finite (answers.py)
 * card: index among the host's cards, 0 where it is not said. */
#include "double.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum kind { LOST, OOM, FIXED };
struct fault {
    enum kind kind;
    int card, done;
    unsigned long launch, allocation;
};
static struct fault faults[32];
static int fault_count;
static atomic_ulong launches;
static unsigned long allocations[MAX_CARDS];
static struct timespec read_at;
static off_t read_size;
static int begun;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static unsigned long number(const char *entry, const char *text) {
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end) refuse("CUDA_DOUBLE_FAULTS has %s, where %s is no whole number", entry, text);
    return value;
}

static void read_fault(char *entry) {
    char whole[256], *rest = NULL;
    snprintf(whole, sizeof whole, "%s", entry);
    char *word = strtok_r(entry, " \t", &rest);
    if (!word || *word == '#' || !strcmp(word, "nan")) return; /* nan: the answering mode's */
    if (strcmp(word, "lost") && strcmp(word, "oom") && strcmp(word, "fixed"))
        refuse("CUDA_DOUBLE_FAULTS has %s, which begins with none of lost, oom, fixed and nan", whole);
    struct fault made = {.kind = *word == 'l' ? LOST : *word == 'o' ? OOM : FIXED};
    while ((word = strtok_r(NULL, " \t", &rest))) {
        if (!strncmp(word, "card=", 5)) made.card = (int)number(whole, word + 5);
        else if (!strncmp(word, "launch=", 7)) made.launch = number(whole, word + 7);
        else if (!strncmp(word, "allocation=", 11) && made.kind == OOM) made.allocation = number(whole, word + 11);
        else refuse("CUDA_DOUBLE_FAULTS has %s, where %s means nothing", whole, word);
    }
    if (made.card >= host_cards()) refuse("CUDA_DOUBLE_FAULTS has %s, but the host has %d cards", whole, host_cards());
    if (fault_count < (int)(sizeof faults / sizeof *faults)) faults[fault_count++] = made;
}

static void read_text(const char *text) {
    char copy[4096], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    fault_count = 0;
    for (char *entry = strtok_r(copy, ";\n", &rest); entry; entry = strtok_r(NULL, ";\n", &rest)) read_fault(entry);
}

/* guard is held. A file that is gone says that nothing is wrong (any more). */
static void refresh(void) {
    const char *given = getenv("CUDA_DOUBLE_FAULTS");
    struct stat now;
    if (!given || *given != '/') {
        if (!begun && given) read_text(given);
        begun = 1;
        return;
    }
    if (stat(given, &now)) {
        fault_count = 0;
        read_size = -1;
        return;
    }
    if (now.st_mtim.tv_sec == read_at.tv_sec && now.st_mtim.tv_nsec == read_at.tv_nsec && now.st_size == read_size) return;
    read_at = now.st_mtim;
    read_size = now.st_size;
    char text[4096] = "";
    FILE *file = fopen(given, "r");
    if (!file) return;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    read_text(text);
}

void count_launch(void) { atomic_fetch_add_explicit(&launches, 1, memory_order_relaxed); }

int card_lost(int card) {
    static int never = -1; /* most processes have no faults: a launch should not wait for a lock then */
    if (never < 0) never = getenv("CUDA_DOUBLE_FAULTS") == NULL;
    if (never) return 0;
    int lost = 0;
    pthread_mutex_lock(&guard);
    refresh();
    for (int i = 0; i < fault_count; i++)
        lost |= faults[i].kind == LOST && faults[i].card == card && atomic_load(&launches) >= faults[i].launch;
    pthread_mutex_unlock(&guard);
    return lost;
}

int segments_refused(int card) {
    int refused = 0;
    if (!getenv("CUDA_DOUBLE_FAULTS")) return 0;
    pthread_mutex_lock(&guard);
    refresh();
    for (int i = 0; i < fault_count; i++) refused |= faults[i].kind == FIXED && faults[i].card == card;
    pthread_mutex_unlock(&guard);
    return refused;
}

int allocation_fails(int card) {
    int fails = 0;
    pthread_mutex_lock(&guard);
    refresh();
    unsigned long now = ++allocations[card];
    for (int i = 0; i < fault_count; i++) {
        struct fault *one = &faults[i];
        if (one->kind != OOM || one->card != card || one->done) continue;
        one->done = one->allocation ? now == one->allocation : atomic_load(&launches) >= one->launch;
        fails |= one->done;
    }
    pthread_mutex_unlock(&guard);
    return fails;
}

EXPORT unsigned long cuda_double_launches(void) { return atomic_load(&launches); }
