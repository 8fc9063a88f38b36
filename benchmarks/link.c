/* An emulated link: a TUN device in each of two network namespaces, and this process between them.
 *
 *     link END=NAMESPACE,DEVICE,RATE,DELAY,LOSS,QUEUE ... MTU SEED SECONDS LOG
 *
 * Two such ends, "a" and "b"; what is said of an end holds for the packets that leave it.
 * RATE is in bit/s, DELAY (one way) in microseconds, LOSS from 0 to 1, QUEUE in bytes.
 *
 * The link is computed, not acted: a packet that arrives at `now` begins to leave when the packet
 * before it has left, takes its length over the rate, and is due a delay later. All three are
 * known on arrival, so no timer of ours can bend the rate; a late wake-up only delivers a packet
 * late, and how late is counted ("late" in the report). What waits to begin is the queue, and a
 * packet that would make it pass QUEUE is dropped (drop-tail). Random loss strikes afterwards: a
 * lost packet has used its share of the link, as on a bad cable or radio.
 *
 * Lengths are those of the IP packets; there is no layer below. TUN offers no offloads, so the
 * kernel cuts every large send into packets of the MTU before we see them.
 *
 * It stops on SIGTERM, on end of input, or after SECONDS; then prints one line of JSON, and writes
 * to LOG one 16-byte record for each packet taken in (see struct record).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define BATCH 64               /* packets read from one end before the other gets its turn */
#define REST 100000LL          /* ns from one look to the next, see run() */
#define MAX_RECORDS (16 << 20) /* 256 MiB of address space, touched only as it fills */
#define BINS 2000              /* of 10 us each, for lateness */

enum fate { DELIVERED, DROPPED, LOST };

struct record {
    uint32_t time_us;      /* of arrival, since the start */
    uint32_t wait_us;      /* in the queue */
    uint16_t length;       /* of the IP packet */
    uint16_t from_port;    /* 0 if neither TCP nor UDP */
    uint16_t to_port;
    uint8_t protocol;      /* IP's number */
    uint8_t end_and_fate;  /* 0x80: it left end b; low bits: enum fate */
};

struct packet {
    struct packet *next;
    int64_t due;
    uint32_t length;
    uint8_t data[];
};

struct end {
    char name[64], device[IFNAMSIZ];
    double rate, loss;
    int64_t delay, queue;
    int fd;
    struct end *peer;
    int64_t free_at; /* when the last packet has left */
    struct packet *first, **last;
    uint64_t packets, bytes, dropped, dropped_bytes, lost, lost_bytes, refused;
};

static struct end ends[2];
static struct packet *spare;
static struct record *records;
static uint64_t record_count, late[BINS + 1], randomness, mtu;
static int64_t began;
static volatile sig_atomic_t stopping;

static void stop(int signal) {
    (void)signal;
    stopping = 1;
}

static void fail(const char *what) {
    fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static double chance(void) { /* xorshift64*, [0, 1) */
    randomness ^= randomness >> 12;
    randomness ^= randomness << 25;
    randomness ^= randomness >> 27;
    return (double)((randomness * 0x2545F4914F6CDD1DULL) >> 11) / 9007199254740992.0;
}

static void parse_end(struct end *end, const char *text) {
    double delay_us, queue;
    if (sscanf(text, "%63[^,],%15[^,],%lf,%lf,%lf,%lf", end->name, end->device, &end->rate,
               &delay_us, &end->loss, &queue) != 6) {
        fprintf(stderr, "link: not NAMESPACE,DEVICE,RATE,DELAY,LOSS,QUEUE: %s\n", text);
        exit(2);
    }
    end->delay = (int64_t)(delay_us * 1000);
    end->queue = (int64_t)queue;
    end->last = &end->first;
}

static void open_device(struct end *end) {
    char path[128];
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(path, sizeof path, "/run/netns/%.63s", end->name);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET) < 0) fail(path);
    close(space);
    end->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (end->fd < 0) fail("/dev/net/tun");
    memcpy(request.ifr_name, end->device, IFNAMSIZ);
    if (ioctl(end->fd, TUNSETIFF, &request) < 0) fail("TUNSETIFF");
}

static void remember(struct end *end, struct packet *packet, int64_t now, int64_t wait,
                     enum fate fate) {
    if (record_count == MAX_RECORDS) return;
    struct record *record = &records[record_count++];
    const uint8_t *ip = packet->data, *ports = NULL;
    if (packet->length >= 28 && ip[0] >> 4 == 4) {
        record->protocol = ip[9];
        ports = ip + (ip[0] & 15) * 4;
    } else if (packet->length >= 48 && ip[0] >> 4 == 6) {
        record->protocol = ip[6];
        ports = ip + 40;
    }
    if (ports && (record->protocol == 6 || record->protocol == 17)) {
        record->from_port = (uint16_t)(ports[0] << 8 | ports[1]);
        record->to_port = (uint16_t)(ports[2] << 8 | ports[3]);
    }
    record->time_us = (uint32_t)((now - began) / 1000);
    record->wait_us = (uint32_t)(wait / 1000);
    record->length = (uint16_t)packet->length;
    record->end_and_fate = (uint8_t)((end == &ends[1] ? 0x80 : 0) | fate);
}

/* Decide all that will happen to a packet; true if it is on its way. */
static int admit(struct end *end, struct packet *packet, int64_t now) {
    int64_t begins = end->free_at > now ? end->free_at : now;
    int64_t queued = (int64_t)((double)(begins - now) * end->rate / 8e9);
    end->packets++;
    end->bytes += packet->length;
    if (queued + packet->length > end->queue && queued > 0) {
        end->dropped++;
        end->dropped_bytes += packet->length;
        remember(end, packet, now, begins - now, DROPPED);
        return 0;
    }
    end->free_at = begins + (int64_t)(packet->length * 8e9 / end->rate);
    packet->due = end->free_at + end->delay;
    if (end->loss > 0 && chance() < end->loss) {
        end->lost++;
        end->lost_bytes += packet->length;
        remember(end, packet, now, begins - now, LOST);
        return 0;
    }
    remember(end, packet, now, begins - now, DELIVERED);
    return 1;
}

static struct packet *take_spare(void) {
    struct packet *packet = spare;
    if (packet) {
        spare = packet->next;
    } else {
        packet = malloc(sizeof *packet + mtu);
        if (!packet) fail("memory");
    }
    return packet;
}

static void give_back(struct packet *packet) {
    packet->next = spare;
    spare = packet;
}

static void take_in(struct end *end) {
    for (int i = 0; i < BATCH; i++) {
        struct packet *packet = take_spare();
        ssize_t length = read(end->fd, packet->data, mtu);
        if (length <= 0) {
            give_back(packet);
            return;
        }
        packet->length = (uint32_t)length;
        if (admit(end, packet, clock_now())) {
            packet->next = NULL;
            *end->last = packet;
            end->last = &packet->next;
        } else {
            give_back(packet);
        }
    }
}

static void hand_over(struct end *end) {
    int64_t now = clock_now();
    while (end->first && end->first->due <= now) {
        struct packet *packet = end->first;
        int64_t bin = (now - packet->due) / 10000;
        late[bin < BINS ? bin : BINS]++;
        if (write(end->peer->fd, packet->data, packet->length) < 0) end->refused++;
        end->first = packet->next;
        if (!end->first) end->last = &end->first;
        give_back(packet);
        now = clock_now();
    }
}

/* As network cards do with interrupts, what comes or is due within REST of a look is taken up at the
 * next. At 500 Mbit/s a packet is due every 24 us. If we woke up for each, we would interrupt whoever
 * runs on our processor as often, and the kernel, to which we seem to sleep half of the time, leaves
 * them there for tens of milliseconds while another processor is idle. */
static void run(int64_t until) {
    struct pollfd watched[3] = {{.fd = ends[0].fd, .events = POLLIN},
                                {.fd = ends[1].fd, .events = POLLIN},
                                {.fd = STDIN_FILENO, .events = POLLIN}};
    while (!stopping) {
        int64_t now = clock_now(), wake = until;
        for (int i = 0; i < 2; i++)
            if (ends[i].first && ends[i].first->due < wake) wake = ends[i].first->due;
        if (now >= until) return;
        int64_t left = wake > now ? wake - now : 0;
        struct timespec timeout = {left / SECOND, left % SECOND};
        if (ppoll(watched, 3, &timeout, NULL) < 0 && errno != EINTR) fail("poll");
        if (watched[2].revents & (POLLIN | POLLHUP)) return; /* whoever started us has gone */
        int64_t next = clock_now() + REST;
        for (int i = 0; i < 2; i++)
            if (watched[i].revents & POLLIN) take_in(&ends[i]);
        for (int i = 0; i < 2; i++) hand_over(&ends[i]);
        struct timespec rest = {next / SECOND, next % SECOND};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &rest, NULL);
    }
}

static double late_us(double share) {
    uint64_t total = 0, seen = 0;
    int bin = 0;
    for (int i = 0; i <= BINS; i++) total += late[i];
    for (; bin < BINS && (double)(seen += late[bin]) < share * (double)total; bin++) {}
    return bin * 10.0;
}

static void report(int realtime, const char *path) {
    printf("{\"realtime\": %s, \"seconds\": %.6f", realtime ? "true" : "false",
           (double)(clock_now() - began) / 1e9);
    printf(", \"late_us\": {\"p50\": %.0f, \"p99\": %.0f, \"p999\": %.0f, \"max\": %.0f}",
           late_us(.5), late_us(.99), late_us(.999), late_us(1));
    for (int i = 0; i < 2; i++) {
        struct end *end = &ends[i];
        printf(", \"%c\": {\"packets\": %lu, \"bytes\": %lu, \"dropped\": %lu, "
               "\"dropped_bytes\": %lu, \"lost\": %lu, \"lost_bytes\": %lu, \"refused\": %lu}",
               'a' + i, end->packets, end->bytes, end->dropped, end->dropped_bytes, end->lost,
               end->lost_bytes, end->refused);
    }
    printf("}\n");
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(records, sizeof *records, record_count, file) != record_count || fclose(file))
        fail(path);
}

/* A link does not wait for a processor: it is first in line, its timers are exact, and idle
 * processors poll instead of sleeping (PM QoS; to wake a halted one costs a virtual machine up to
 * a millisecond, which would be added to every delay). True if all of that was granted. */
static int never_wait(void) {
    struct sched_param priority = {.sched_priority = 10};
    int32_t latency = 0;
    int file = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC); /* holds while it is open */
    int awake = file >= 0 && write(file, &latency, sizeof latency) == sizeof latency;
    prctl(PR_SET_TIMERSLACK, 1UL);
    return sched_setscheduler(0, SCHED_FIFO, &priority) == 0 && awake;
}

int main(int count, char **words) {
    if (count != 7) {
        fprintf(stderr, "link: END END MTU SEED SECONDS LOG, see the head of link.c\n");
        return 2;
    }
    for (int i = 0; i < 2; i++) {
        parse_end(&ends[i], words[1 + i]);
        ends[i].peer = &ends[1 - i];
        open_device(&ends[i]);
    }
    mtu = strtoull(words[3], NULL, 10);
    randomness = strtoull(words[4], NULL, 10) * 0x9E3779B97F4A7C15ULL | 1;
    records = mmap(NULL, MAX_RECORDS * sizeof *records, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (records == MAP_FAILED) fail("mmap");
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int realtime = never_wait();
    began = clock_now();
    printf("ready\n");
    fflush(stdout);
    run(began + (int64_t)(strtod(words[5], NULL) * 1e9));
    report(realtime, words[6]);
    return 0;
}
