/* A libnvidia-ml.so.1 for tests: the NVML calls that workers/gpus.py makes, answered from a text file.
 *
 * The file is named by NVML_STUB_STATE and read again whenever it changed, so that a test moves the readings by
 * writing it. One card a line, `key=value` apart by blanks, no blanks in values (_ stands for one in a name):
 *   uuid=GPU-0 name=Stub_A total=1000 used=10 reserved=5 util=50 power=70000 limit=400000 temp=40 sm=1400 mem=2600
 *   energy=123000 throttle=4 ecc_c=1 ecc_u=0 mig=0 pids=4242:100,4243:200 lost=0 without=ecc,energy,clocks
 * lost=1: every call on the card fails with NVML_ERROR_GPU_IS_LOST. without: readings that this card does not have.
 * Signatures and values: nvml.h of CUDA 13.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { MAX_CARDS = 16, MAX_PIDS = 8, TEXT = 96 };

typedef struct {
    char uuid[TEXT], name[TEXT], without[TEXT];
    unsigned long long total, used, reserved, energy, throttle, ecc_c, ecc_u;
    unsigned int util, power, limit, temp, sm, mem, mig, lost, pid_count, pids[MAX_PIDS];
    unsigned long long pid_bytes[MAX_PIDS];
} card_t;

typedef card_t *nvmlDevice_t;
static card_t cards[MAX_CARDS];
static unsigned int card_count;
static struct timespec read_at;
static off_t read_size;
static int started;

static void set_pids(card_t *card, char *list) {
    char *rest = NULL;
    for (char *item = strtok_r(list, ",", &rest); item && card->pid_count < MAX_PIDS; item = strtok_r(NULL, ",", &rest)) {
        char *colon = strchr(item, ':');
        card->pids[card->pid_count] = (unsigned int)strtoul(item, NULL, 10);
        /* all ones: NVML_VALUE_NOT_AVAILABLE */
        card->pid_bytes[card->pid_count++] = colon ? strtoull(colon + 1, NULL, 10) : ~0ULL;
    }
}

static void set_field(card_t *card, const char *key, char *value) {
    struct { const char *key; unsigned long long *field; } wide[] = {
        {"total", &card->total}, {"used", &card->used}, {"reserved", &card->reserved}, {"energy", &card->energy},
        {"throttle", &card->throttle}, {"ecc_c", &card->ecc_c}, {"ecc_u", &card->ecc_u}};
    struct { const char *key; unsigned int *field; } narrow[] = {
        {"util", &card->util}, {"power", &card->power}, {"limit", &card->limit}, {"temp", &card->temp},
        {"sm", &card->sm}, {"mem", &card->mem}, {"mig", &card->mig}, {"lost", &card->lost}};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (!strcmp(key, wide[i].key)) *wide[i].field = strtoull(value, NULL, 10);
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
        if (!strcmp(key, narrow[i].key)) *narrow[i].field = (unsigned int)strtoul(value, NULL, 10);
    if (!strcmp(key, "uuid")) snprintf(card->uuid, TEXT, "%s", value);
    if (!strcmp(key, "without")) snprintf(card->without, TEXT, "%s", value);
    if (!strcmp(key, "pids")) set_pids(card, value);
    if (!strcmp(key, "name")) {
        snprintf(card->name, TEXT, "%s", value);
        for (char *at = card->name; *at; at++)
            if (*at == '_') *at = ' ';
    }
}

/* Reads the state file if it changed. A missing file is a driver that is not loaded. */
static int refresh(void) {
    const char *path = getenv("NVML_STUB_STATE");
    struct stat now;
    if (!path || stat(path, &now)) return DRIVER_NOT_LOADED;
    if (now.st_mtim.tv_sec == read_at.tv_sec && now.st_mtim.tv_nsec == read_at.tv_nsec && now.st_size == read_size)
        return SUCCESS;
    FILE *file = fopen(path, "r");
    if (!file) return DRIVER_NOT_LOADED;
    read_at = now.st_mtim;
    read_size = now.st_size;
    card_count = 0;
    for (char line[1024]; card_count < MAX_CARDS && fgets(line, sizeof line, file);) {
        card_t *card = &cards[card_count];
        memset(card, 0, sizeof *card);
        char *rest = NULL;
        for (char *word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
            char *equals = strchr(word, '=');
            if (!equals) continue;
            *equals = 0;
            set_field(card, word, equals + 1);
        }
        if (card->uuid[0]) card_count++;
    }
    fclose(file);
    return SUCCESS;
}

static int usable(nvmlDevice_t card, const char *reading) {
    if (!started) return UNINITIALIZED;
    int status = refresh();
    if (status) return status;
    if (card < cards || card >= cards + card_count) return INVALID_ARGUMENT;
    if (card->lost) return GPU_IS_LOST;
    return strstr(card->without, reading) ? NOT_SUPPORTED : SUCCESS;
}

#define READING(name, type, tag, value)                \
    int name(nvmlDevice_t card, type *out) {           \
        int status = usable(card, tag);                \
        if (!status) *out = (value);                   \
        return status;                                 \
    }

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    int status = refresh();
    started = !status;
    return status;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return started = 0, SUCCESS; }

const char *nvmlErrorString(int code) {
    switch (code) {
        case UNINITIALIZED: return "Uninitialized";
        case NOT_SUPPORTED: return "Not Supported";
        case NOT_FOUND: return "Not Found";
        case DRIVER_NOT_LOADED: return "Driver Not Loaded";
        case GPU_IS_LOST: return "GPU is lost";
        default: return "Unknown Error";
    }
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    int status = started ? refresh() : UNINITIALIZED;
    if (!status) *count = card_count;
    return status;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *card) {
    int status = started ? refresh() : UNINITIALIZED;
    if (status) return status;
    if (index >= card_count) return INVALID_ARGUMENT;
    *card = &cards[index];
    return cards[index].lost ? GPU_IS_LOST : SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *card) {
    int status = started ? refresh() : UNINITIALIZED;
    if (status) return status;
    for (unsigned int i = 0; i < card_count; i++)
        if (!strcmp(cards[i].uuid, uuid)) return *card = &cards[i], cards[i].lost ? GPU_IS_LOST : SUCCESS;
    return NOT_FOUND;
}

static int text(nvmlDevice_t card, const char *from, char *to, unsigned int room) {
    int status = usable(card, "text");
    if (!status) snprintf(to, room, "%s", from);
    return status;
}
int nvmlDeviceGetUUID(nvmlDevice_t card, char *to, unsigned int room) { return text(card, card->uuid, to, room); }
int nvmlDeviceGetName(nvmlDevice_t card, char *to, unsigned int room) { return text(card, card->name, to, room); }

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2_t;

int nvmlDeviceGetMemoryInfo(nvmlDevice_t card, memory_t *out) {
    int status = usable(card, "memory_v1");
    if (!status) {
        out->total = card->total;
        out->used = card->used + card->reserved; /* as the real one does */
        out->free = out->total - out->used;
    }
    return status;
}

int nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t card, memory_v2_t *out) {
    int status = usable(card, "memory_v2");
    if (!status) {
        out->total = card->total;
        out->reserved = card->reserved;
        out->used = card->used;
        out->free = out->total - out->used - out->reserved;
    }
    return status;
}

typedef struct { unsigned int gpu, memory; } utilization_t;
int nvmlDeviceGetUtilizationRates(nvmlDevice_t card, utilization_t *out) {
    int status = usable(card, "util");
    if (!status) *out = (utilization_t){card->util, card->util / 2};
    return status;
}

READING(nvmlDeviceGetPowerUsage, unsigned int, "power", card->power)
READING(nvmlDeviceGetEnforcedPowerLimit, unsigned int, "power", card->limit)
READING(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, "energy", card->energy)
READING(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, "event_reasons", card->throttle)
READING(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "throttle", card->throttle)

int nvmlDeviceGetTemperature(nvmlDevice_t card, int sensor, unsigned int *out) {
    int status = sensor ? INVALID_ARGUMENT : usable(card, "temp");
    if (!status) *out = card->temp;
    return status;
}

typedef struct { unsigned int version; int sensor; int temperature; } temperature_t;
int nvmlDeviceGetTemperatureV(nvmlDevice_t card, temperature_t *out) {
    int status = out->sensor ? INVALID_ARGUMENT : usable(card, "temp");
    if (!status) out->temperature = (int)card->temp;
    return status;
}

int nvmlDeviceGetClockInfo(nvmlDevice_t card, int kind, unsigned int *out) {
    int status = usable(card, "clocks");
    if (!status) *out = kind == 2 ? card->mem : card->sm; /* NVML_CLOCK_SM 1, NVML_CLOCK_MEM 2 */
    return status;
}

int nvmlDeviceGetTotalEccErrors(nvmlDevice_t card, int kind, int counter, unsigned long long *out) {
    int status = counter ? INVALID_ARGUMENT : usable(card, "ecc"); /* NVML_VOLATILE_ECC 0 */
    if (!status) *out = kind ? card->ecc_u : card->ecc_c;
    return status;
}

int nvmlDeviceGetMigMode(nvmlDevice_t card, unsigned int *current, unsigned int *pending) {
    int status = usable(card, "mig");
    if (!status) *current = *pending = card->mig;
    return status;
}

typedef struct { unsigned int pid; unsigned long long bytes; unsigned int gpu_instance, compute_instance; } process_t;
int nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t card, unsigned int *count, process_t *out) {
    int status = usable(card, "processes");
    if (status) return status;
    unsigned int room = *count;
    *count = card->pid_count;
    if (room < card->pid_count) return INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < card->pid_count; i++)
        out[i] = (process_t){card->pids[i], card->pid_bytes[i], ~0u, ~0u};
    return SUCCESS;
}
