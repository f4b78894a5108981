/*
 * Sends UDP over IPv6 as fast as one core can, as frames of its own making, spread evenly over connections between owners
 * and instances. Prints how many frames it sent and in how many nanoseconds.
 *
 *   flood INTERFACE MILLISECONDS SOURCE-MAC TARGET-MAC SOURCE TARGET PORTS INSTANCES CONNECTIONS
 *
 * SOURCE and TARGET are the first addresses of rows of INSTANCES addresses each; the Nth sends to the Nth. PORTS is
 * SOURCE:TARGET; of the connections of one pair the owner's port, the larger one of the two, is counted up. With 0
 * milliseconds every connection gets one frame, without haste.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define PAYLOAD 18
#define BATCH 64
#define GENTLE_BATCH 16

struct frame {
  struct ether_header ethernet;
  struct ip6_hdr ip;
  struct udphdr udp;
  char payload[PAYLOAD];
} __attribute__((packed));

static void fail(const char *what) {
  fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

/* One's complement sum of RFC 1071. */
static uint32_t sum(const void *from, size_t length, uint32_t so_far) {
  const unsigned char *bytes = from;
  for (size_t i = 0; i + 1 < length; i += 2) so_far += (uint32_t)bytes[i] << 8 | bytes[i + 1];
  return so_far;
}

static void parse_mac(const char *from, unsigned char *to) {
  if (sscanf(from, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", to, to + 1, to + 2, to + 3, to + 4, to + 5) != 6) fail(from);
}

/* The address that is `number` further than the first one. */
static struct in6_addr address(const struct in6_addr *first, uint32_t number) {
  struct in6_addr result = *first;
  uint32_t low;
  memcpy(&low, &result.s6_addr[12], 4);
  low = htonl(ntohl(low) + number);
  memcpy(&result.s6_addr[12], &low, 4);
  return result;
}

static void build(struct frame *frame, const struct in6_addr *source, const struct in6_addr *target, int from, int to) {
  uint16_t length = sizeof frame->udp + PAYLOAD;
  frame->ethernet.ether_type = htons(ETHERTYPE_IPV6);
  frame->ip.ip6_flow = htonl(6u << 28);
  frame->ip.ip6_plen = htons(length);
  frame->ip.ip6_nxt = IPPROTO_UDP;
  frame->ip.ip6_hlim = 64;
  frame->ip.ip6_src = *source;
  frame->ip.ip6_dst = *target;
  frame->udp.source = htons(from);
  frame->udp.dest = htons(to);
  frame->udp.len = htons(length);
  frame->udp.check = 0;
  uint32_t total = sum(&frame->ip.ip6_src, 32, length + IPPROTO_UDP);
  total = sum(&frame->udp, length, total);
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  frame->udp.check = htons(total == 0xffff ? 0xffff : (uint16_t)~total);
}

int main(int count, char **arguments) {
  struct frame model = {0};
  struct in6_addr source, target;
  int from, to;
  if (count != 10) {
    errno = EINVAL;
    fail("arguments");
  }
  long milliseconds = atol(arguments[2]), instances = atol(arguments[8]), connections = atol(arguments[9]);
  parse_mac(arguments[3], model.ethernet.ether_shost);
  parse_mac(arguments[4], model.ethernet.ether_dhost);
  if (inet_pton(AF_INET6, arguments[5], &source) != 1 || inet_pton(AF_INET6, arguments[6], &target) != 1 ||
      sscanf(arguments[7], "%d:%d", &from, &to) != 2 || instances < 1 || connections < instances) {
    errno = EINVAL;
    fail("arguments");
  }
  struct frame *frames = malloc(connections * sizeof *frames);
  if (frames == NULL) fail("memory");
  for (long i = 0; i < connections; i++) {
    struct in6_addr a = address(&source, i % instances), b = address(&target, i % instances);
    int up = i / instances;
    frames[i] = model;
    build(&frames[i], &a, &b, from > to ? from + up : from, from > to ? to : to + up);
  }

  int fd = socket(AF_PACKET, SOCK_RAW, 0), on = 1;
  struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(arguments[1])};
  if (fd < 0 || here.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&here, sizeof here) < 0) fail(arguments[1]);
  setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on);
  static struct mmsghdr messages[BATCH];
  static struct iovec parts[BATCH];
  int batch = milliseconds == 0 ? GENTLE_BATCH : BATCH;
  uint64_t worked = now(CLOCK_PROCESS_CPUTIME_ID), began = now(CLOCK_MONOTONIC), end = began + (uint64_t)milliseconds * 1000000u, sent = 0;
  for (long next = 0; milliseconds == 0 ? (long)sent < connections : now(CLOCK_MONOTONIC) < end;) {
    for (int i = 0; i < batch; i++) {
      parts[i] = (struct iovec){&frames[(next + i) % connections], sizeof *frames};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    int done = sendmmsg(fd, messages, batch, 0);
    if (done < 0 && errno != ENOBUFS) fail("send");
    if (done < 0) continue;
    sent += done;
    next = (next + done) % connections;
    if (milliseconds == 0) nanosleep(&(struct timespec){0, 100000}, NULL);
  }
  printf("%llu %llu %llu\n", (unsigned long long)sent, (unsigned long long)(now(CLOCK_MONOTONIC) - began),
         (unsigned long long)(now(CLOCK_PROCESS_CPUTIME_ID) - worked));
  return 0;
}
