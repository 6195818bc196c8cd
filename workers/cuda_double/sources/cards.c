/* Which cards the host has, and which of them this process sees. */
#include "double.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct card cards[MAX_CARDS];
static int card_count, visible[MAX_CARDS], visible_count;
static pthread_once_t cards_read = PTHREAD_ONCE_INIT, visible_read = PTHREAD_ONCE_INIT;

_Noreturn void refuse(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("cuda double: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    fflush(stderr);
    _exit(70); /* EX_SOFTWARE */
}

size_t variable_number(const char *name, size_t usual) {
    const char *text = getenv(name);
    if (!text || !*text) return usual;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end || text[0] == '-') refuse("%s is %s; it wants a whole number from 0", name, text);
    return value;
}

/* Over a real card the double would hide it from what was meant to train on it. */
__attribute__((constructor)) static void refuse_a_real_driver(void) {
    const char *root = getenv("CUDA_DOUBLE_ROOT"), *force = getenv("CUDA_DOUBLE_FORCE");
    char path[4096];
    snprintf(path, sizeof path, "%s/proc/driver/nvidia/version", root ? root : "");
    if (!access(path, F_OK) && !(force && !strcmp(force, "1")))
        refuse("an NVIDIA driver is loaded here (%s); set CUDA_DOUBLE_FORCE=1 to use cards that are not there", path);
}

/* A host's cards have the same UUIDs in all its processes, and another host's have others: they come from the ledger. */
static void name_uuid(struct card *card, int index) {
    const char *host = getenv("CUDA_DOUBLE_LEDGER");
    uint64_t hash = 1469598103934665603u; /* FNV-1a, 64 bits */
    for (const char *at = host ? host : ""; *at; at++) hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    unsigned char *bytes = card->uuid;
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(hash >> 8 * i);
    memcpy(bytes + 8, "\x80no-gpu", 7);
    bytes[15] = (unsigned char)index;
    char *text = card->uuid_text + sprintf(card->uuid_text, "GPU-");
    for (int i = 0; i < 16; i++) text += sprintf(text, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", bytes[i]);
}

static size_t read_size(const char *entry, const char *text) {
    char *unit;
    errno = 0;
    double number = strtod(text, &unit);
    size_t factor = !strcmp(unit, "GiB") ? MIB << 10 : !strcmp(unit, "MiB") ? MIB : !strcmp(unit, "B") ? 1 : 0;
    if (errno || unit == text || !factor || !(number > 0) || number * (double)factor > 1e15)
        refuse("CUDA_DOUBLE_CARDS has %s, whose size is none; write one such as rtx4090:20GiB", entry);
    return (size_t)(number * (double)factor);
}

static void read_card(char *entry) {
    char whole[128];
    snprintf(whole, sizeof whole, "%s", entry);
    char *size = strchr(entry, ':');
    if (size) *size++ = 0;
    for (size_t i = 0; i < CARD_TYPE_COUNT; i++) {
        if (strcmp(CARD_TYPES[i].key, entry)) continue;
        if (card_count == MAX_CARDS) refuse("CUDA_DOUBLE_CARDS has more than %d cards", MAX_CARDS);
        struct card *card = &cards[card_count];
        card->type = CARD_TYPES[i];
        /* Who says a size means what processes can have: then there is no driver's share beside it. */
        if (size) card->type.memory = card->type.usable = read_size(whole, size);
        name_uuid(card, card_count++);
        return;
    }
    refuse("CUDA_DOUBLE_CARDS has %s, which jobs/cards.py lacks; it has names such as rtx4090, a100-80gb, h100", whole);
}

static void read_cards(void) {
    const char *given = getenv("CUDA_DOUBLE_CARDS");
    char text[4096], *rest = NULL;
    if (!given) return;
    if (strlen(given) >= sizeof text) refuse("CUDA_DOUBLE_CARDS is too long");
    strcpy(text, given);
    for (char *entry = strtok_r(text, ", ", &rest); entry; entry = strtok_r(NULL, ", ", &rest)) read_card(entry);
    size_t context = variable_number("CUDA_DOUBLE_CONTEXT_MIB", (size_t)-1);
    for (int i = 0; context != (size_t)-1 && i < card_count; i++) {
        cards[i].type.context = context * MIB;
        cards[i].type.blas = cards[i].type.dnn = cards[i].type.nccl = 0;
    }
}

int host_cards(void) {
    pthread_once(&cards_read, read_cards);
    return card_count;
}

const struct card *host_card(int index) { return index >= 0 && index < host_cards() ? &cards[index] : NULL; }

/* One entry of CUDA_VISIBLE_DEVICES: an ordinal, or a UUID of which the beginning is enough where it is one card's. */
static int find_card(const char *entry, size_t length) {
    if (strncmp(entry, "GPU-", 4)) {
        char *end;
        long index = strtol(entry, &end, 10);
        return end == entry + length && end > entry && index >= 0 && index < card_count ? (int)index : -1;
    }
    int found = -1;
    for (int i = 0; i < card_count; i++) {
        if (strncmp(cards[i].uuid_text, entry, length)) continue;
        if (found >= 0) return -1;
        found = i;
    }
    return found;
}

static void read_visible(void) {
    host_cards();
    const char *at = getenv("CUDA_VISIBLE_DEVICES");
    if (!at) {
        for (; visible_count < card_count; visible_count++) visible[visible_count] = visible_count;
        return;
    }
    for (;;) { /* what stands behind an entry that names no card is not seen either */
        size_t length = strcspn(at, ",");
        int index = find_card(at, length);
        if (index < 0) return;
        for (int i = 0; i < visible_count; i++)
            if (visible[i] == index) { /* a card named twice: the driver then shows none */
                visible_count = 0;
                return;
            }
        visible[visible_count++] = index;
        if (at[length] != ',') return;
        at += length + 1;
    }
}

int visible_cards(void) {
    pthread_once(&visible_read, read_visible);
    return visible_count;
}

int visible_card(int ordinal) { return ordinal >= 0 && ordinal < visible_cards() ? visible[ordinal] : -1; }
