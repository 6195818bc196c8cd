/* Memory of the host's cards. With CUDA_DOUBLE_LEDGER all processes that name the same file share the cards, and what a
 * process held comes back when it ends, however it ends; without it a process has the cards to itself. */
#include "double.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct holder { /* a process; pid 0: a free place */
    int pid;
    unsigned long long born; /* clock ticks since boot: a process id comes again, with another birth */
    size_t bytes[MAX_CARDS], managed[MAX_CARDS], peak[MAX_CARDS];
    unsigned char uses[MAX_CARDS];
};
struct ledger {
    char cards[1024]; /* whose memory this is, and a ';'; empty: not begun */
    pthread_mutex_t lock;
    int holders; /* places that were ever taken */
    struct holder holder[MAX_HOLDERS];
};

static struct ledger *ledger;
static struct holder *mine;
static pthread_once_t opened = PTHREAD_ONCE_INIT;

unsigned long long process_birth(int pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    if (got <= 0) return 0;
    text[got] = 0;
    char *at = strrchr(text, ')'); /* the name before it may hold anything */
    if (!at || at[2] == 'Z' || at[2] == 'X') return 0;
    at += 2;
    for (int field = 3; field < 22 && at; field++) at = strchr(at + 1, ' '); /* starttime is field 22 */
    return at ? strtoull(at, NULL, 10) : 0;
}

static void forget_mine(void) { mine = NULL; } /* a forked child holds nothing of its parent's */

static void begin(struct ledger *made, const char *cards) {
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&made->lock, &kind);
    snprintf(made->cards, sizeof made->cards, "%s;", cards);
}

static void open_ledger(void) {
    const char *path = getenv("CUDA_DOUBLE_LEDGER"), *given = getenv("CUDA_DOUBLE_CARDS");
    const char *cards = given ? given : "";
    char wanted[sizeof ledger->cards];
    snprintf(wanted, sizeof wanted, "%s;", cards);
    pthread_atfork(NULL, NULL, forget_mine);
    if (!path || !*path) {
        ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (ledger == MAP_FAILED) refuse("no memory for a ledger: %s", strerror(errno));
        begin(ledger, cards);
        return;
    }
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || flock(file, LOCK_EX) || ftruncate(file, sizeof *ledger))
        refuse("CUDA_DOUBLE_LEDGER %s can't be used: %s", path, strerror(errno));
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (ledger == MAP_FAILED) refuse("CUDA_DOUBLE_LEDGER %s can't be mapped: %s", path, strerror(errno));
    if (!ledger->cards[0]) begin(ledger, cards);
    flock(file, LOCK_UN);
    close(file);
    if (strcmp(ledger->cards, wanted))
        refuse("CUDA_DOUBLE_LEDGER %s is of other cards (%.*s) than CUDA_DOUBLE_CARDS (%s)", path,
               (int)strlen(ledger->cards) - 1, ledger->cards, cards);
}

static void lock(void) {
    pthread_once(&opened, open_ledger);
    if (pthread_mutex_lock(&ledger->lock) == EOWNERDEAD) pthread_mutex_consistent(&ledger->lock);
}
static void unlock(void) { pthread_mutex_unlock(&ledger->lock); }

static void bury_dead(void) {
    for (int i = 0; i < ledger->holders; i++) {
        struct holder *one = &ledger->holder[i];
        if (one != mine && one->pid && process_birth(one->pid) != one->born) memset(one, 0, sizeof *one);
    }
}

static struct holder *my_place(void) {
    if (mine) return mine;
    bury_dead();
    int at = 0;
    while (at < ledger->holders && ledger->holder[at].pid) at++;
    if (at == MAX_HOLDERS) refuse("more than %d processes use the cards of one ledger", MAX_HOLDERS);
    if (at == ledger->holders) ledger->holders++;
    mine = &ledger->holder[at];
    memset(mine, 0, sizeof *mine);
    mine->pid = getpid();
    mine->born = process_birth(mine->pid);
    return mine;
}

static size_t held(int card) {
    size_t sum = 0;
    for (int i = 0; i < ledger->holders; i++) sum += ledger->holder[i].bytes[card];
    return sum;
}

static int charge(int card, size_t bytes) {
    size_t usable = host_card(card)->type.usable;
    struct holder *place = my_place();
    if (held(card) + bytes > usable) bury_dead();
    if (held(card) + bytes > usable) return 0;
    place->bytes[card] += bytes;
    if (place->bytes[card] > place->peak[card]) place->peak[card] = place->bytes[card];
    return 1;
}

int ledger_charge(int card, size_t bytes) {
    lock();
    int fits = charge(card, bytes);
    unlock();
    return fits;
}

void ledger_release(int card, size_t bytes) {
    lock();
    struct holder *place = my_place();
    place->bytes[card] -= bytes < place->bytes[card] ? bytes : place->bytes[card];
    unlock();
}

int ledger_use(int card, enum use what) {
    if (mine && mine->uses[card] & what) return 1;
    const struct card_type *type = &host_card(card)->type;
    size_t share = what == USE_CONTEXT ? type->context : what == USE_BLAS ? type->blas : what == USE_DNN ? type->dnn : type->nccl;
    lock();
    int fits = my_place()->uses[card] & what || charge(card, share);
    if (fits) mine->uses[card] |= what;
    unlock();
    return fits;
}

int ledger_uses(int card, enum use what) { return mine && mine->uses[card] & what; }

void ledger_managed(int card, long long bytes) {
    lock();
    my_place()->managed[card] += (size_t)bytes;
    unlock();
}

/* Managed memory is on the card as far as there is room beside the rest. */
size_t ledger_used(int card) {
    lock();
    bury_dead();
    size_t usable = host_card(card)->type.usable, sum = held(card), managed = 0;
    for (int i = 0; i < ledger->holders; i++) managed += ledger->holder[i].managed[card];
    unlock();
    return managed < usable - sum ? sum + managed : usable;
}

int ledger_holdings(int card, struct holding *out, int room) {
    int count = 0;
    lock();
    bury_dead();
    for (int i = 0; i < ledger->holders; i++) {
        const struct holder *one = &ledger->holder[i];
        if (!one->pid || !one->uses[card]) continue;
        if (count < room) out[count] = (struct holding){one->pid, one->bytes[card]};
        count++;
    }
    unlock();
    return count;
}

size_t ledger_peak(int card) { return mine ? mine->peak[card] : 0; }

/* For benchmarks and tests, through ctypes: most that this process held of a card it sees, context included, in bytes. */
EXPORT size_t cuda_double_peak(int ordinal) {
    int card = visible_card(ordinal);
    return card < 0 ? 0 : ledger_peak(card);
}
EXPORT void cuda_double_reset_peak(int ordinal) {
    int card = visible_card(ordinal);
    if (card >= 0 && mine) mine->peak[card] = mine->bytes[card];
}
