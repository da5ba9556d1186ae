/*
 * Counts what one processor of an emulated board executes between two markers.
 *
 * A marker is an instruction that every Arm core executes as a no-operation: HINT #96 starts,
 * HINT #97 ends a measurement (Arm ARM, C6.2 "HINT": unallocated hints execute as NOP). Between
 * them, for every translated block of user space: how often it ran and, with mem=1, how often its
 * accesses missed a model of the board's caches. The result is a text file per measurement.
 *
 * Why nothing in it depends on the emulating machine:
 *  - counts are of the guest's own instructions, of the processor that passed the marker, in user
 *    space only; interrupts, the kernel and other processors do not enter;
 *  - the cache model sees no virtual addresses: pages get numbers in the order they are first
 *    touched, as a freshly booted kernel would hand out frames, so that address space
 *    randomisation does not show.
 *
 * Arguments: out=DIR, mem=0|1, l1=KIB:WAYS, l2=KIB:WAYS, l3=KIB:WAYS (0 where there is none),
 * line=BYTES, low=HEX (end of the addresses whose code stays out of the cache model).
 */
#include "qemu_plugin_api.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = EDGE_PLUGIN_API;

#define MAX_BLOCKS (1u << 19)
#define MAX_CPUS 64
#define LEVELS 3
#define PAGE_BITS 12
#define SEED 0x9e3779b97f4a7c15ull
/* AArch64 HINT #n: 0xd503201f | n << 5. A32 HINT #n: 0xe320f000 | n. T32: 0xf3af8000 | n. */
#define A64_HINT(n) (0xd503201fu | ((n) << 5))
#define A32_HINT(n) (0xe320f000u | (n))
#define T32_HINT(n) (0xf3af8000u | (n))
enum { START = 96, STOP = 97 };

typedef struct {
    uint64_t vaddr;
    uint32_t insns, size, hash, next;
    uint8_t *code;
    uint8_t ends_in_call;
    uint64_t first_seen; /* order of first execution in this measurement, of blocks with calls */
    uint64_t base;       /* count when the measurement began */
    uint64_t cut_base;   /* count at the last cut */
    uint64_t written_back, cut_written_back; /* changed lines that the last level gave back */
    uint64_t fresh, cut_fresh;               /* lines not touched before in this segment */
    uint64_t miss[LEVELS], cut_miss[LEVELS];
} Block;

typedef struct {
    uint32_t sets, ways;
    uint64_t *tags; /* sets x ways of (line + 1) << 1 | changed; 0 is empty. L1: latest first */
    uint64_t random;
} Cache;

static Block *blocks;
static uint32_t n_blocks = 1, table[1u << 20], overflowed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *out_dir;
static int with_memory, runs;
static unsigned line_bits = 6;
static uint64_t low_end;
static Cache caches[LEVELS];
static volatile int active;
static unsigned active_cpu;
static uint64_t sequence, cut_vaddr, n_cuts, segment_number;
static FILE *segments;
static char *segments_text;
static size_t segments_size;

/* Pages in order of first touch: open addressing, key + 1 so that 0 is free. */
static uint64_t *page_keys;
typedef struct {
    uint64_t segment, lines; /* which lines of the page were touched in that segment */
} Touched;
static Touched *touched; /* by page number */
static uint32_t *page_numbers, page_slots = 1u << 16, n_pages;

#if EDGE_PLUGIN_API >= 2
static struct qemu_plugin_scoreboard *board;
static inline uint64_t count_of(uint32_t index, unsigned cpu)
{
    return ((uint64_t *)qemu_plugin_scoreboard_find(board, cpu))[index];
}
#else
static uint64_t *counts[MAX_CPUS];
static inline uint64_t count_of(uint32_t index, unsigned cpu) { return counts[cpu][index]; }
static void count_block(unsigned cpu, void *data)
{
    if (cpu < MAX_CPUS) {
        counts[cpu][(uintptr_t)data]++;
    }
}
#endif

static uint64_t frame_of(uint64_t page)
{
    uint64_t key = page + 1;
    uint32_t slot = (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 32) & (page_slots - 1);
    while (page_keys[slot] != 0 && page_keys[slot] != key) {
        slot = (slot + 1) & (page_slots - 1);
    }
    if (page_keys[slot] == 0) {
        if (2 * n_pages > page_slots) {
            uint64_t *old_keys = page_keys;
            uint32_t *old_numbers = page_numbers, old_slots = page_slots;
            page_slots *= 2;
            page_keys = calloc(page_slots, sizeof *page_keys);
            page_numbers = calloc(page_slots, sizeof *page_numbers);
            touched = realloc(touched, page_slots * sizeof *touched);
            memset(touched + old_slots, 0, (page_slots - old_slots) * sizeof *touched);
            for (uint32_t i = 0; i < old_slots; i++) {
                if (old_keys[i]) {
                    uint32_t s = (uint32_t)((old_keys[i] * 0x9e3779b97f4a7c15ull) >> 32);
                    for (s &= page_slots - 1; page_keys[s]; s = (s + 1) & (page_slots - 1)) {
                    }
                    page_keys[s] = old_keys[i];
                    page_numbers[s] = old_numbers[i];
                }
            }
            free(old_keys);
            free(old_numbers);
            return frame_of(page);
        }
        page_keys[slot] = key;
        page_numbers[slot] = n_pages++;
    }
    return page_numbers[slot];
}

static uint64_t *find(Cache *cache, uint64_t line)
{
    uint64_t *set = cache->tags + (line % cache->sets) * cache->ways;
    for (uint32_t way = 0; way < cache->ways; way++) {
        if (set[way] >> 1 == line + 1) {
            return &set[way];
        }
    }
    return NULL;
}

/* A line that was changed leaves a level: the next one keeps it, memory in the end. */
static void write_back(Block *block, int level, uint64_t line)
{
    for (; level < LEVELS && caches[level].sets; level++) {
        uint64_t *entry = find(&caches[level], line);
        if (entry) {
            *entry |= 1;
            return;
        }
    }
    block->written_back++;
}

/* Returns whether the line was there; it is there afterwards. L1 replaces what was used longest
 * ago, larger caches at random, as Arm's do (and a loop a little larger than the cache does not
 * lose all of it). */
static bool look_up(Block *block, int level, uint64_t line, bool store)
{
    Cache *cache = &caches[level];
    uint64_t *set = cache->tags + (line % cache->sets) * cache->ways;
    uint64_t *entry = find(cache, line), victim;
    if (level == 0) {
        uint32_t way = entry ? (uint32_t)(entry - set) : cache->ways - 1;
        uint64_t tag = entry ? *entry : (line + 1) << 1;
        victim = entry ? 0 : set[way];
        memmove(set + 1, set, way * sizeof *set);
        set[0] = tag | store;
    } else if (entry) {
        return true;
    } else {
        uint32_t way = 0;
        while (way < cache->ways && set[way]) {
            way++;
        }
        if (way == cache->ways) {
            cache->random ^= cache->random << 13;
            cache->random ^= cache->random >> 7;
            cache->random ^= cache->random << 17;
            way = (uint32_t)((cache->random >> 32) % cache->ways);
        }
        victim = set[way];
        set[way] = (line + 1) << 1;
    }
    if (victim & 1) {
        write_back(block, level + 1, (victim >> 1) - 1);
    }
    return entry != NULL;
}

static void touch(Block *block, uint64_t line, bool store)
{
    unsigned in_page = PAGE_BITS - line_bits;
    Touched *page = &touched[line >> in_page];
    uint64_t bit = 1ull << (line & ((1u << in_page) - 1));
    if (page->segment != segment_number) {
        page->segment = segment_number;
        page->lines = 0;
    }
    if (!(page->lines & bit)) {
        page->lines |= bit;
        block->fresh++;
    }
    for (int level = 0; level < LEVELS && caches[level].sets; level++) {
        if (look_up(block, level, line, store)) {
            return;
        }
        block->miss[level]++;
    }
}

static void memory(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *data)
{
    if (!active || cpu != active_cpu) {
        return;
    }
    Block *block = &blocks[(uintptr_t)data];
    unsigned size = 1u << qemu_plugin_mem_size_shift(info);
    bool store = qemu_plugin_mem_is_store(info);
    uint64_t mask = (1ull << PAGE_BITS) - 1;
    uint64_t address = (frame_of(vaddr >> PAGE_BITS) << PAGE_BITS) | (vaddr & mask);
    touch(block, address >> line_bits, store);
    if ((vaddr & ((1u << line_bits) - 1)) + size > (1u << line_bits)) {
        uint64_t next = vaddr + size - 1;
        address = (frame_of(next >> PAGE_BITS) << PAGE_BITS) | (next & mask);
        touch(block, address >> line_bits, store);
    }
}

static void write_segment(unsigned cpu)
{
    fprintf(segments, "segment %llu\n", (unsigned long long)n_cuts++);
    segment_number++;
    for (uint32_t i = 1; i < n_blocks; i++) {
        Block *b = &blocks[i];
        uint64_t now = count_of(i, cpu), ran = now - b->cut_base;
        if (!ran) {
            continue;
        }
        fprintf(segments, "s %u %llu", i, (unsigned long long)ran);
        for (int level = 0; level < LEVELS; level++) {
            fprintf(segments, " %llu",
                    (unsigned long long)(b->miss[level] - b->cut_miss[level]));
            b->cut_miss[level] = b->miss[level];
        }
        fprintf(segments, " %llu %llu\n",
                (unsigned long long)(b->written_back - b->cut_written_back),
                (unsigned long long)(b->fresh - b->cut_fresh));
        b->cut_written_back = b->written_back;
        b->cut_fresh = b->fresh;
        b->cut_base = now;
    }
}

static void call(unsigned cpu, void *data)
{
    if (!active || cpu != active_cpu) {
        return;
    }
    Block *block = &blocks[(uintptr_t)data];
    if (!block->first_seen) {
        block->first_seen = ++sequence;
    }
    if (block->vaddr == cut_vaddr) {
        write_segment(cpu);
    }
}

/* As after switching on: empty caches, no page numbered. */
static void forget(void)
{
    for (int level = 0; level < LEVELS && caches[level].sets; level++) {
        Cache *cache = &caches[level];
        memset(cache->tags, 0, (size_t)cache->sets * cache->ways * sizeof *cache->tags);
        cache->random = SEED;
    }
    memset(page_keys, 0, page_slots * sizeof *page_keys);
    memset(touched, 0, page_slots * sizeof *touched);
    n_pages = 0;
}

static void start(unsigned cpu, void *data)
{
    (void)data;
    pthread_mutex_lock(&lock);
    char reset[4096];
    snprintf(reset, sizeof reset, "%s/reset", out_dir);
    if (unlink(reset) == 0) { /* the harness begins another measurement */
        forget();
    }
    /* The harness may have named a block at which to cut the measurement into segments. */
    char name[4096];
    snprintf(name, sizeof name, "%s/cut", out_dir);
    cut_vaddr = 0;
    FILE *file = fopen(name, "r");
    if (file) {
        unsigned long long value;
        cut_vaddr = fscanf(file, "%llx", &value) == 1 ? value : 0;
        fclose(file);
    }
    sequence = n_cuts = 0;
    segments = open_memstream(&segments_text, &segments_size);
    for (uint32_t i = 1; i < n_blocks; i++) {
        Block *b = &blocks[i];
        b->base = b->cut_base = count_of(i, cpu);
        b->first_seen = 0;
        b->written_back = b->cut_written_back = b->fresh = b->cut_fresh = 0;
        memset(b->miss, 0, sizeof b->miss);
        memset(b->cut_miss, 0, sizeof b->cut_miss);
    }
    segment_number++;
    active_cpu = cpu;
    active = 1;
    pthread_mutex_unlock(&lock);
}

static void stop(unsigned cpu, void *data)
{
    (void)data;
    if (!active || cpu != active_cpu) {
        return;
    }
    pthread_mutex_lock(&lock);
    active = 0;
    if (cut_vaddr) {
        write_segment(cpu);
    }
    fclose(segments);
    char name[4096], final[4096];
    snprintf(name, sizeof name, "%s/part", out_dir);
    snprintf(final, sizeof final, "%s/run-%d", out_dir, runs++);
    FILE *file = fopen(name, "w");
    if (file) {
        fprintf(file, "edge-clock 4 overflowed %u\n", overflowed);
        for (uint32_t i = 1; i < n_blocks; i++) {
            Block *b = &blocks[i];
            uint64_t ran = count_of(i, cpu) - b->base;
            if (!ran) {
                continue;
            }
            fprintf(file, "b %u %llx %u %llu %llu", i, (unsigned long long)b->vaddr, b->insns,
                    (unsigned long long)ran, (unsigned long long)b->first_seen);
            for (int level = 0; level < LEVELS; level++) {
                fprintf(file, " %llu", (unsigned long long)b->miss[level]);
            }
            fprintf(file, " %llu %llu ", (unsigned long long)b->written_back,
                    (unsigned long long)b->fresh);
            for (uint32_t k = 0; k < b->size; k++) {
                fprintf(file, "%02x", b->code[k]);
            }
            fputc('\n', file);
        }
        if (segments_text) {
            fwrite(segments_text, 1, segments_size, file);
        }
        fprintf(file, "end\n");
        if (fclose(file) == 0) {
            rename(name, final);
        }
    }
    free(segments_text);
    segments_text = NULL;
    pthread_mutex_unlock(&lock);
}

/* The index of a block that was translated before, or a new one; 0 if there is no room. */
static uint32_t block_index(uint64_t vaddr, uint32_t insns, const uint8_t *code, uint32_t size)
{
    uint32_t hash = 2166136261u;
    for (uint32_t i = 0; i < size; i++) {
        hash = (hash ^ code[i]) * 16777619u;
    }
    hash ^= (uint32_t)(vaddr * 0x9e3779b1u) ^ insns;
    uint32_t *slot = &table[hash & ((1u << 20) - 1)];
    for (uint32_t i = *slot; i; i = blocks[i].next) {
        Block *b = &blocks[i];
        if (b->hash == hash && b->vaddr == vaddr && b->size == size &&
            memcmp(b->code, code, size) == 0) {
            return i;
        }
    }
    if (n_blocks == MAX_BLOCKS) {
        overflowed++;
        return 0;
    }
    Block *b = &blocks[n_blocks];
    b->vaddr = vaddr;
    b->insns = insns;
    b->size = size;
    b->hash = hash;
    b->code = malloc(size);
    memcpy(b->code, code, size);
    b->next = *slot;
    *slot = n_blocks;
    return n_blocks++;
}

static uint32_t word_at(const uint8_t *code)
{
    return code[0] | code[1] << 8 | code[2] << 16 | (uint32_t)code[3] << 24;
}

static int marker(const uint8_t *code, size_t size)
{
    if (size != 4) {
        return 0;
    }
    uint32_t word = word_at(code), thumb = word << 16 | word >> 16;
    for (int n = START; n <= STOP; n++) {
        if (word == A64_HINT(n) || word == A32_HINT(n) || thumb == T32_HINT(n)) {
            return n;
        }
    }
    return 0;
}

/* Calls and jumps through a register, by which runtimes enter their operators. */
static bool is_call(const uint8_t *code, size_t size)
{
    if (size == 2) { /* T16: BLX Rm */
        return ((code[0] | code[1] << 8) & 0xff87) == 0x4780;
    }
    uint32_t word = word_at(code);
    /* A64: BR Xn, BLR Xn; A32: BLX Rm, which is no instruction of A64. */
    return (word & 0xffdffc1fu) == 0xd61f0000u || (word & 0xfffffff0u) == 0xe12fff30u;
}

#if EDGE_PLUGIN_API >= 7
static void translated(struct qemu_plugin_tb *tb, void *unused)
{
    (void)unused;
#else
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
#endif
    if (qemu_plugin_tb_vaddr(tb) >> 48) {
        return; /* the kernel's half of the address space */
    }
    static __thread uint8_t code[1 << 16];
    size_t n = qemu_plugin_tb_n_insns(tb), size = 0, last = 0;
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size_t width = qemu_plugin_insn_size(insn);
        if (size + width > sizeof code) {
            return;
        }
#if EDGE_PLUGIN_API >= 3
        qemu_plugin_insn_data(insn, code + size, width);
#else
        memcpy(code + size, qemu_plugin_insn_data(insn), width);
#endif
        int mark = marker(code + size, width);
        if (mark) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, mark == START ? start : stop,
                                                   QEMU_PLUGIN_CB_NO_REGS, NULL);
        }
        last = size;
        size += width;
    }
    pthread_mutex_lock(&lock);
    uint32_t index = block_index(qemu_plugin_tb_vaddr(tb), n, code, size);
    pthread_mutex_unlock(&lock);
    if (!index) {
        return;
    }
    void *data = (void *)(uintptr_t)index;
#if EDGE_PLUGIN_API >= 2
    qemu_plugin_u64 entry = {board, index * sizeof(uint64_t)};
    qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64, entry, 1);
#else
    qemu_plugin_register_vcpu_tb_exec_cb(tb, count_block, QEMU_PLUGIN_CB_NO_REGS, data);
#endif
    if (is_call(code + last, size - last)) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, n - 1);
        qemu_plugin_register_vcpu_insn_exec_cb(insn, call, QEMU_PLUGIN_CB_NO_REGS, data);
    }
    if (with_memory && qemu_plugin_tb_vaddr(tb) >= low_end) {
        for (size_t i = 0; i < n; i++) {
            qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), memory,
                                             QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, data);
        }
    }
}

static void make_cache(Cache *cache, const char *text)
{
    unsigned kib = 0, ways = 1;
    if (sscanf(text, "%u:%u", &kib, &ways) < 1 || !kib || !ways) {
        return;
    }
    cache->ways = ways;
    cache->sets = (kib << 10) / ((1u << line_bits) * ways);
    cache->random = SEED;
    cache->tags = calloc((size_t)cache->sets * ways, sizeof *cache->tags);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                           char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value) {
            continue;
        }
        *value++ = 0;
        if (!strcmp(argv[i], "out")) {
            out_dir = value;
        } else if (!strcmp(argv[i], "mem")) {
            with_memory = !strcmp(value, "1") || !strcmp(value, "on") || !strcmp(value, "true");
        } else if (argv[i][0] == 'l' && argv[i][1] >= '1' && argv[i][1] <= '3' && !argv[i][2]) {
            make_cache(&caches[argv[i][1] - '1'], value);
        } else if (!strcmp(argv[i], "low")) {
            low_end = strtoull(value, NULL, 16);
        } else if (!strcmp(argv[i], "line")) {
            for (line_bits = 4; (1u << line_bits) < (unsigned)atoi(value); line_bits++) {
            }
        }
    }
    if (!out_dir) {
        fprintf(stderr, "edge-clock: out=DIR is missing\n");
        return -1;
    }
    blocks = calloc(MAX_BLOCKS, sizeof *blocks);
    page_keys = calloc(page_slots, sizeof *page_keys);
    page_numbers = calloc(page_slots, sizeof *page_numbers);
    touched = calloc(page_slots, sizeof *touched);
#if EDGE_PLUGIN_API >= 2
    board = qemu_plugin_scoreboard_new(MAX_BLOCKS * sizeof(uint64_t));
#else
    for (int cpu = 0; cpu < MAX_CPUS; cpu++) {
        counts[cpu] = calloc(MAX_BLOCKS, sizeof(uint64_t));
    }
#endif
#if EDGE_PLUGIN_API >= 7
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
#else
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
#endif
    return 0;
}
