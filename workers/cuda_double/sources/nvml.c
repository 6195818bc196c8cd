/* NVML: the readings of the host's cards. Memory and processes come from the ledger, so that they agree with what CUDA
 * grants; what a card that is not there can't know (power, clocks, temperature, ECC, load) is not supported.
 *
 * With CUDA_DOUBLE_READINGS the cards and all their readings come from a text file instead, read again whenever it
 * changed, so that a test moves them by writing it. One card a line, `key=value` apart by blanks, no blanks in values
 * (_ stands for one in a name):
 *   uuid=GPU-0 name=Stub_A total=1000 used=10 reserved=5 util=50 power=70000 limit=400000 temp=40 sm=1400 mem=2600
 *   energy=123000 throttle=4 ecc_c=1 ecc_u=0 mig=0 pids=4242:100,4243:200 lost=0 without=ecc,energy,clocks
 * lost=1: every call on the card fails with NVML_ERROR_GPU_IS_LOST. without: readings that this card does not have.
 * Signatures and values: nvml.h of CUDA 13. */
#include "double.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { MAX_PIDS = 64, TEXT = 128 };

typedef struct {
    char uuid[TEXT], name[TEXT], without[TEXT];
    unsigned long long total, used, reserved, energy, throttle, ecc_c, ecc_u;
    unsigned int util, power, limit, temp, sm, mem, mig, lost, pid_count, pids[MAX_PIDS];
    unsigned long long pid_bytes[MAX_PIDS];
} reading_t;

typedef reading_t *nvmlDevice_t;
static reading_t readings[MAX_CARDS];
static unsigned int reading_count;
static struct timespec read_at;
static off_t read_size;
static int started;

/* ---- readings from the text file */
static void set_pids(reading_t *card, char *list) {
    char *rest = NULL;
    for (char *item = strtok_r(list, ",", &rest); item && card->pid_count < MAX_PIDS; item = strtok_r(NULL, ",", &rest)) {
        char *colon = strchr(item, ':');
        card->pids[card->pid_count] = (unsigned int)strtoul(item, NULL, 10);
        /* all ones: NVML_VALUE_NOT_AVAILABLE */
        card->pid_bytes[card->pid_count++] = colon ? strtoull(colon + 1, NULL, 10) : ~0ULL;
    }
}

static void set_field(reading_t *card, const char *key, char *value) {
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

/* Reads the file if it changed. A missing file is a driver that is not loaded. */
static int read_file(const char *path) {
    struct stat now;
    if (stat(path, &now)) return DRIVER_NOT_LOADED;
    if (now.st_mtim.tv_sec == read_at.tv_sec && now.st_mtim.tv_nsec == read_at.tv_nsec && now.st_size == read_size)
        return SUCCESS;
    FILE *file = fopen(path, "r");
    if (!file) return DRIVER_NOT_LOADED;
    read_at = now.st_mtim;
    read_size = now.st_size;
    reading_count = 0;
    for (char line[1024]; reading_count < MAX_CARDS && fgets(line, sizeof line, file);) {
        reading_t *card = &readings[reading_count];
        memset(card, 0, sizeof *card);
        char *rest = NULL;
        for (char *word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
            char *equals = strchr(word, '=');
            if (!equals) continue;
            *equals = 0;
            set_field(card, word, equals + 1);
        }
        if (card->uuid[0]) reading_count++;
    }
    fclose(file);
    return SUCCESS;
}

/* ---- readings from the ledger */
static void read_ledger(reading_t *card, int index) {
    struct holding holdings[MAX_PIDS];
    const struct card *of = host_card(index);
    snprintf(card->uuid, TEXT, "%s", of->uuid_text);
    snprintf(card->name, TEXT, "NVIDIA %s", of->type.name);
    snprintf(card->without, TEXT, "util,power,energy,event_reasons,throttle,temp,clocks,ecc,mig");
    card->total = of->type.memory;
    card->reserved = of->type.memory - of->type.usable;
    card->used = ledger_used(index);
    card->lost = (unsigned int)card_lost(index);
    int found = ledger_holdings(index, holdings, MAX_PIDS);
    card->pid_count = (unsigned int)(found < MAX_PIDS ? found : MAX_PIDS);
    for (unsigned int i = 0; i < card->pid_count; i++) {
        card->pids[i] = (unsigned int)holdings[i].pid;
        card->pid_bytes[i] = holdings[i].bytes;
    }
}

static int refresh(void) {
    const char *path = getenv("CUDA_DOUBLE_READINGS");
    if (path) return read_file(path);
    if (!host_cards()) return DRIVER_NOT_LOADED;
    reading_count = (unsigned int)host_cards();
    for (unsigned int i = 0; i < reading_count; i++) read_ledger(&readings[i], (int)i);
    return SUCCESS;
}

static int usable(nvmlDevice_t card, const char *reading) {
    if (!started) return UNINITIALIZED;
    int status = refresh();
    if (status) return status;
    if (card < readings || card >= readings + reading_count) return INVALID_ARGUMENT;
    if (card->lost) return GPU_IS_LOST;
    return strstr(card->without, reading) ? NOT_SUPPORTED : SUCCESS;
}

#define READING(name, type, tag, value)                   \
    EXPORT int name(nvmlDevice_t card, type *out) {       \
        int status = usable(card, tag);                   \
        if (!status) *out = (value);                      \
        return status;                                    \
    }
/* Callers that were not compiled against nvml.h ask for names without the version that its macros add. */
#define ALSO(name, of) extern __typeof__(of) name __attribute__((alias(#of), visibility("default")));

/* ---- the library and its cards */
EXPORT int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    int status = refresh();
    started = !status;
    return status;
}
EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
EXPORT int nvmlShutdown(void) { return started = 0, SUCCESS; }

EXPORT const char *nvmlErrorString(int code) {
    switch (code) {
        case UNINITIALIZED: return "Uninitialized";
        case NOT_SUPPORTED: return "Not Supported";
        case NOT_FOUND: return "Not Found";
        case DRIVER_NOT_LOADED: return "Driver Not Loaded";
        case GPU_IS_LOST: return "GPU is lost";
        default: return "Unknown Error";
    }
}

EXPORT int nvmlSystemGetDriverVersion(char *to, unsigned int room) { return snprintf(to, room, "580.0"), SUCCESS; }
EXPORT int nvmlSystemGetNVMLVersion(char *to, unsigned int room) { return snprintf(to, room, "13.580.0"), SUCCESS; }
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) { return *version = 13000, SUCCESS; }

EXPORT int nvmlDeviceGetCount_v2(unsigned int *count) {
    int status = started ? refresh() : UNINITIALIZED;
    if (!status) *count = reading_count;
    return status;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *card) {
    int status = started ? refresh() : UNINITIALIZED;
    if (status) return status;
    if (index >= reading_count) return INVALID_ARGUMENT;
    *card = &readings[index];
    return readings[index].lost ? GPU_IS_LOST : SUCCESS;
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *card) {
    int status = started ? refresh() : UNINITIALIZED;
    if (status) return status;
    for (unsigned int i = 0; i < reading_count; i++)
        if (!strcmp(readings[i].uuid, uuid)) return *card = &readings[i], readings[i].lost ? GPU_IS_LOST : SUCCESS;
    return NOT_FOUND;
}

EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *card) {
    const char *colon = strchr(bus, ':'); /* domain:bus:device.function; the bus is index + 1, as devices.c says */
    return nvmlDeviceGetHandleByIndex_v2(colon ? (unsigned int)strtoul(colon + 1, NULL, 16) - 1 : ~0u, card);
}

static int text(nvmlDevice_t card, const char *from, char *to, unsigned int room) {
    int status = usable(card, "text");
    if (!status) snprintf(to, room, "%s", from);
    return status;
}
EXPORT int nvmlDeviceGetUUID(nvmlDevice_t card, char *to, unsigned int room) { return text(card, card->uuid, to, room); }
EXPORT int nvmlDeviceGetName(nvmlDevice_t card, char *to, unsigned int room) { return text(card, card->name, to, room); }
READING(nvmlDeviceGetIndex, unsigned int, "text", (unsigned int)(card - readings))

/* ---- memory and processes */
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2_t;

EXPORT int nvmlDeviceGetMemoryInfo(nvmlDevice_t card, memory_t *out) {
    int status = usable(card, "memory_v1");
    if (!status) {
        out->total = card->total;
        out->used = card->used + card->reserved; /* as the real one does */
        out->free = out->total - out->used;
    }
    return status;
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t card, memory_v2_t *out) {
    int status = usable(card, "memory_v2");
    if (!status) {
        out->total = card->total;
        out->reserved = card->reserved;
        out->used = card->used;
        out->free = out->total - out->used - out->reserved;
    }
    return status;
}

typedef struct { unsigned int pid; unsigned long long bytes; unsigned int gpu_instance, compute_instance; } process_t;
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t card, unsigned int *count, process_t *out) {
    int status = usable(card, "processes");
    if (status) return status;
    unsigned int room = *count;
    *count = card->pid_count;
    if (room < card->pid_count) return INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < card->pid_count; i++)
        out[i] = (process_t){card->pids[i], card->pid_bytes[i], ~0u, ~0u};
    return SUCCESS;
}
ALSO(nvmlDeviceGetComputeRunningProcesses_v2, nvmlDeviceGetComputeRunningProcesses_v3)

typedef struct { unsigned int pid; unsigned long long bytes; } process_v1_t;
EXPORT int nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t card, unsigned int *count, process_v1_t *out) {
    process_t found[MAX_PIDS];
    unsigned int room = *count, there = MAX_PIDS;
    int status = nvmlDeviceGetComputeRunningProcesses_v3(card, &there, found);
    if (status) return status;
    *count = there;
    if (room < there) return INSUFFICIENT_SIZE;
    for (unsigned int i = 0; i < there; i++) out[i] = (process_v1_t){found[i].pid, found[i].bytes};
    return SUCCESS;
}

/* ---- what else a card reads */
typedef struct { unsigned int gpu, memory; } utilization_t;
EXPORT int nvmlDeviceGetUtilizationRates(nvmlDevice_t card, utilization_t *out) {
    int status = usable(card, "util");
    if (!status) *out = (utilization_t){card->util, card->util / 2};
    return status;
}

READING(nvmlDeviceGetPowerUsage, unsigned int, "power", card->power)
READING(nvmlDeviceGetEnforcedPowerLimit, unsigned int, "power", card->limit)
READING(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, "energy", card->energy)
READING(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, "event_reasons", card->throttle)
READING(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "throttle", card->throttle)

EXPORT int nvmlDeviceGetTemperature(nvmlDevice_t card, int sensor, unsigned int *out) {
    int status = sensor ? INVALID_ARGUMENT : usable(card, "temp");
    if (!status) *out = card->temp;
    return status;
}

typedef struct { unsigned int version; int sensor; int temperature; } temperature_t;
EXPORT int nvmlDeviceGetTemperatureV(nvmlDevice_t card, temperature_t *out) {
    int status = out->sensor ? INVALID_ARGUMENT : usable(card, "temp");
    if (!status) out->temperature = (int)card->temp;
    return status;
}

EXPORT int nvmlDeviceGetClockInfo(nvmlDevice_t card, int kind, unsigned int *out) {
    int status = usable(card, "clocks");
    if (!status) *out = kind == 2 ? card->mem : card->sm; /* NVML_CLOCK_SM 1, NVML_CLOCK_MEM 2 */
    return status;
}

EXPORT int nvmlDeviceGetTotalEccErrors(nvmlDevice_t card, int kind, int counter, unsigned long long *out) {
    int status = counter ? INVALID_ARGUMENT : usable(card, "ecc"); /* NVML_VOLATILE_ECC 0 */
    if (!status) *out = kind ? card->ecc_u : card->ecc_c;
    return status;
}

EXPORT int nvmlDeviceGetMigMode(nvmlDevice_t card, unsigned int *current, unsigned int *pending) {
    int status = usable(card, "mig");
    if (!status) *current = *pending = card->mig;
    return status;
}

/* ---- links between cards: there are none (torch asks before it lets cards read each other's memory) */
EXPORT int nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t card, unsigned char *info) {
    return (void)card, info[28] = 0 /* state: NVML_GPU_FABRIC_STATE_NOT_SUPPORTED */, SUCCESS;
}
EXPORT int nvmlDeviceGetP2PStatus(nvmlDevice_t a, nvmlDevice_t b, int what, int *status) {
    return (void)a, (void)b, (void)what, *status = 3 /* NVML_P2P_STATUS_NOT_SUPPORTED */, SUCCESS;
}
EXPORT int nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t card, unsigned int link, int *type) {
    return (void)card, (void)link, (void)type, NOT_SUPPORTED;
}
EXPORT int nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t card, unsigned int link, void *bus) {
    return (void)card, (void)link, (void)bus, NOT_SUPPORTED;
}

ALSO(nvmlInit, nvmlInit_v2)
ALSO(nvmlDeviceGetCount, nvmlDeviceGetCount_v2)
ALSO(nvmlDeviceGetHandleByIndex, nvmlDeviceGetHandleByIndex_v2)
ALSO(nvmlDeviceGetHandleByPciBusId, nvmlDeviceGetHandleByPciBusId_v2)
ALSO(nvmlDeviceGetNvLinkRemotePciInfo, nvmlDeviceGetNvLinkRemotePciInfo_v2)
