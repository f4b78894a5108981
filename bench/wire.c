/*
 * What the wiring of an instance costs without any of our TypeScript: the same netlink messages in the same datagrams, the
 * same waiting, measured in the process itself. Commands come on standard input, one a line:
 *
 *   attach BRIDGE PID LINK MAC            links a sandbox to the bridge, as `attach` does
 *   place BRIDGE PID LINK MAC GATEWAY PREFIXLENGTH ADDRESS [FORMER]
 *                                         address, route and neighbours in place of the former address, as `place` does
 *   nft COMMANDS                          one transaction of libnftables, as the firewall makes it
 *   detach LINK
 *
 * The answer to each is its time in nanoseconds. Anything unexpected ends the program with a message.
 *
 * `wire sandboxes N` is something else: N processes, each in a network namespace of its own; prints their ids, and lasts
 * until its standard input ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define INSIDE "eth0"
#define MAC_LENGTH 6
/* BR_STATE_FORWARDING of linux/if_bridge.h, and IF_OPER_UP of linux/if.h, which does not go together with net/if.h. */
#define FORWARDING 3
#define OPERATIONAL 6
#define ROUTE_METRIC 512

static void fail(const char *format, ...) {
  va_list list;
  va_start(list, format);
  vfprintf(stderr, format, list);
  va_end(list);
  fputc('\n', stderr);
  exit(1);
}

/* --- building a datagram ------------------------------------------------------------------------------------------ */

static struct {
  char bytes[8192];
  size_t length;
  struct nlmsghdr *last;
  uint32_t sequence;
  int count;
} out;

static void begin(void) {
  out.length = 0;
  out.count = 0;
}

static void *message(uint16_t type, uint16_t flags, size_t header) {
  struct nlmsghdr *h = (struct nlmsghdr *)(out.bytes + out.length);
  memset(h, 0, NLMSG_SPACE(header));
  h->nlmsg_len = NLMSG_LENGTH(header);
  h->nlmsg_type = type;
  h->nlmsg_flags = NLM_F_REQUEST | flags;
  h->nlmsg_seq = ++out.sequence;
  out.last = h;
  out.count++;
  out.length += NLMSG_SPACE(header);
  return NLMSG_DATA(h);
}

static struct rtattr *attribute(uint16_t type, const void *data, size_t length) {
  struct rtattr *a = (struct rtattr *)(out.bytes + out.length);
  a->rta_type = type;
  a->rta_len = RTA_LENGTH(length);
  memset(RTA_DATA(a), 0, RTA_SPACE(length) - RTA_LENGTH(0));
  if (data != NULL) memcpy(RTA_DATA(a), data, length);
  out.length += RTA_SPACE(length);
  out.last->nlmsg_len = out.bytes + out.length - (char *)out.last;
  return a;
}

static void end_nested(struct rtattr *nest) { nest->rta_len = out.bytes + out.length - (char *)nest; }
static void u8(uint16_t type, uint8_t value) { attribute(type, &value, 1); }
static void u32(uint16_t type, uint32_t value) { attribute(type, &value, 4); }
static void text(uint16_t type, const char *value) { attribute(type, value, strlen(value) + 1); }

/* --- asking the kernel ------------------------------------------------------------------------------------------- */

struct link {
  int index, running, operational, is_port, port_state, peer;
  uint32_t mtu;
  unsigned flags;
  unsigned char mac[MAC_LENGTH];
};

static char in[128 * 1024];

static void read_link(struct nlmsghdr *h, struct link *link) {
  struct ifinfomsg *info = NLMSG_DATA(h);
  int length = IFLA_PAYLOAD(h);
  memset(link, 0, sizeof *link);
  link->index = info->ifi_index;
  link->flags = info->ifi_flags;
  link->running = (info->ifi_flags & IFF_RUNNING) != 0;
  for (struct rtattr *a = IFLA_RTA(info); RTA_OK(a, length); a = RTA_NEXT(a, length)) {
    int type = a->rta_type & NLA_TYPE_MASK;
    if (type == IFLA_MTU) link->mtu = *(uint32_t *)RTA_DATA(a);
    if (type == IFLA_LINK) link->peer = *(int *)RTA_DATA(a);
    if (type == IFLA_ADDRESS) memcpy(link->mac, RTA_DATA(a), MAC_LENGTH);
    if (type == IFLA_OPERSTATE) link->operational = *(uint8_t *)RTA_DATA(a) == OPERATIONAL;
    if (type != IFLA_LINKINFO) continue;
    int inner = RTA_PAYLOAD(a);
    for (struct rtattr *b = RTA_DATA(a); RTA_OK(b, inner); b = RTA_NEXT(b, inner)) {
      if (b->rta_type == IFLA_INFO_SLAVE_KIND) link->is_port = strcmp(RTA_DATA(b), "bridge") == 0;
      if ((b->rta_type & NLA_TYPE_MASK) != IFLA_INFO_SLAVE_DATA) continue;
      int deep = RTA_PAYLOAD(b);
      for (struct rtattr *c = RTA_DATA(b); RTA_OK(c, deep); c = RTA_NEXT(c, deep))
        if (c->rta_type == IFLA_BRPORT_STATE) link->port_state = *(uint8_t *)RTA_DATA(c);
    }
  }
}

/*
 * Sends the datagram and reads until its last message is acknowledged. Links that are told are read into `links`, in order;
 * `local` becomes whether a route that is told ends here. An error is fine only where `fine` is its number.
 */
static void ask(int fd, const char *purpose, struct link *links, int *local, int fine) {
  if (send(fd, out.bytes, out.length, 0) < 0) fail("%s: send: %s", purpose, strerror(errno));
  for (;;) {
    int length = recv(fd, in, sizeof in, 0);
    if (length < 0) fail("%s: receive: %s", purpose, strerror(errno));
    for (struct nlmsghdr *h = (struct nlmsghdr *)in; NLMSG_OK(h, (unsigned)length); h = NLMSG_NEXT(h, length)) {
      if (h->nlmsg_type == RTM_NEWLINK && links != NULL) read_link(h, links++);
      if (h->nlmsg_type == RTM_NEWROUTE && local != NULL) *local = ((struct rtmsg *)NLMSG_DATA(h))->rtm_type == RTN_LOCAL;
      if (h->nlmsg_type != NLMSG_ERROR && h->nlmsg_type != NLMSG_DONE) continue;
      int error = h->nlmsg_type == NLMSG_ERROR ? -((struct nlmsgerr *)NLMSG_DATA(h))->error : 0;
      if (error != 0 && error != fine) fail("%s: %s", purpose, strerror(error));
      if (h->nlmsg_seq == out.sequence) return;
    }
  }
}

/* --- namespaces --------------------------------------------------------------------------------------------------- */

static int home, host;
static ino_t home_inode;

static int route_socket(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) fail("socket: %s", strerror(errno));
  return fd;
}

static void configure(int fd) {
  int on = 1;
  struct timeval timeout = {10, 0};
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
}

/* Opens the namespace of a process that is proven to be the same still, and a socket in it. */
static void enter(int pid, int *namespace, int *route) {
  char path[64];
  struct stat status;
  int process = syscall(SYS_pidfd_open, pid, 0);
  if (process < 0) fail("pidfd_open %d: %s", pid, strerror(errno));
  snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
  *namespace = open(path, O_RDONLY | O_CLOEXEC);
  struct pollfd exited = {process, POLLIN, 0};
  if (*namespace < 0 || poll(&exited, 1, 0) != 0 || fstat(*namespace, &status) < 0) fail("process %d is gone", pid);
  if (status.st_ino == home_inode) fail("process %d is not isolated", pid);
  close(process);
  if (setns(*namespace, CLONE_NEWNET) < 0) fail("setns: %s", strerror(errno));
  *route = route_socket();
  if (setns(home, CLONE_NEWNET) < 0 || stat("/proc/thread-self/ns/net", &status) < 0 || status.st_ino != home_inode)
    abort();
  configure(*route);
}

/* --- the messages ------------------------------------------------------------------------------------------------- */

static struct ifinfomsg *link_message(uint16_t type, uint16_t flags, int index, const char *name) {
  struct ifinfomsg *info = message(type, flags, sizeof *info);
  info->ifi_index = index;
  if (name != NULL) text(IFLA_IFNAME, name);
  return info;
}

static void get_link(const char *name, uint16_t flags) {
  link_message(RTM_GETLINK, flags, 0, name);
  u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

static void no_link_local(int index, const char *name) {
  link_message(RTM_NEWLINK, 0, index, name);
  struct rtattr *families = attribute(IFLA_AF_SPEC, NULL, 0), *six = attribute(AF_INET6, NULL, 0);
  u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  end_nested(six);
  end_nested(families);
}

static void parse_mac(const char *from, unsigned char *mac) {
  unsigned part[MAC_LENGTH];
  if (sscanf(from, "%x:%x:%x:%x:%x:%x", part, part + 1, part + 2, part + 3, part + 4, part + 5) != MAC_LENGTH)
    fail("not a MAC: %s", from);
  for (int i = 0; i < MAC_LENGTH; i++) mac[i] = part[i];
}

static void neighbour(uint16_t flags, int family, int index, int state, int entry, const void *address, const void *mac) {
  struct ndmsg *n = message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE | flags, sizeof *n);
  n->ndm_family = family;
  n->ndm_ifindex = index;
  n->ndm_state = state;
  n->ndm_flags = entry;
  if (address != NULL) attribute(NDA_DST, address, 16);
  attribute(NDA_LLADDR, mac, MAC_LENGTH);
}

static int passing(const struct link *link) {
  return link->operational && (!link->is_port || link->port_state == FORWARDING);
}

static void pause_shortly(void) {
  struct timespec pause = {0, 50000};
  nanosleep(&pause, NULL);
}

static void attach(const char *bridge_name, int pid, const char *name, const char *mac_text) {
  unsigned char mac[MAC_LENGTH];
  struct link bridge, ends[2], inner;
  int namespace, inside;
  parse_mac(mac_text, mac);
  begin();
  get_link(bridge_name, NLM_F_ACK);
  ask(host, "read the bridge", &bridge, NULL, 0);
  enter(pid, &namespace, &inside);

  begin();
  link_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, name);
  u32(IFLA_MTU, bridge.mtu);
  u32(IFLA_MASTER, bridge.index);
  struct rtattr *info = attribute(IFLA_LINKINFO, NULL, 0);
  text(IFLA_INFO_KIND, "veth");
  struct rtattr *data = attribute(IFLA_INFO_DATA, NULL, 0);
  struct ifinfomsg none = {0};
  struct rtattr *peer = attribute(VETH_INFO_PEER, &none, sizeof none);
  text(IFLA_IFNAME, INSIDE);
  attribute(IFLA_ADDRESS, mac, MAC_LENGTH);
  u32(IFLA_MTU, bridge.mtu);
  u32(IFLA_NET_NS_FD, namespace);
  end_nested(peer);
  end_nested(data);
  end_nested(info);
  get_link(name, NLM_F_ACK);
  ask(host, "make the pair", ends, NULL, 0);

  begin();
  no_link_local(ends[0].index, NULL);
  link_message(RTM_NEWLINK, 0, ends[0].index, NULL);
  info = attribute(IFLA_LINKINFO, NULL, 0);
  text(IFLA_INFO_SLAVE_KIND, "bridge");
  data = attribute(IFLA_INFO_SLAVE_DATA, NULL, 0);
  u8(IFLA_BRPORT_LEARNING, 0);
  u8(IFLA_BRPORT_UNICAST_FLOOD, 0);
  u8(IFLA_BRPORT_ISOLATED, 1);
  u8(IFLA_BRPORT_GUARD, 1);
  end_nested(data);
  end_nested(info);
  struct ifinfomsg *up = link_message(RTM_NEWLINK, 0, ends[0].index, NULL);
  up->ifi_flags = up->ifi_change = IFF_UP;
  neighbour(NLM_F_ACK, AF_BRIDGE, ends[0].index, NUD_NOARP, NTF_MASTER, NULL, mac);
  ask(host, "set the port", NULL, NULL, 0);

  begin();
  no_link_local(0, INSIDE);
  up = link_message(RTM_NEWLINK, NLM_F_ACK, 0, INSIDE);
  up->ifi_flags = up->ifi_change = IFF_UP;
  ask(inside, "set the inner end", NULL, NULL, 0);

  for (;;) {
    begin();
    get_link(name, 0);
    get_link(bridge_name, NLM_F_ACK);
    ask(host, "read the port", ends, NULL, 0);
    if (passing(&ends[0]) && ends[1].running) {
      begin();
      get_link(INSIDE, NLM_F_ACK);
      ask(inside, "read the inner end", &inner, NULL, 0);
      if (passing(&inner)) break;
    }
    pause_shortly();
  }
  close(inside);
  close(namespace);
}

static void parse_address(const char *from, unsigned char *address) {
  if (inet_pton(AF_INET6, from, address) != 1) fail("not an address: %s", from);
}

static void place(const char *bridge_name, int pid, const char *name, const char *mac_text, const char *gateway_text,
                  int prefix, const char *address_text, const char *former_text) {
  unsigned char mac[MAC_LENGTH], address[16], gateway[16], former[16];
  struct link outer[2], inner;
  int namespace, inside, local = 0;
  parse_mac(mac_text, mac);
  parse_address(address_text, address);
  parse_address(gateway_text, gateway);
  if (former_text != NULL) parse_address(former_text, former);
  enter(pid, &namespace, &inside);
  begin();
  get_link(bridge_name, 0);
  get_link(name, NLM_F_ACK);
  ask(host, "read bridge and port", outer, NULL, 0);
  begin();
  get_link(INSIDE, NLM_F_ACK);
  ask(inside, "read the inner end", &inner, NULL, 0);
  if (memcmp(inner.mac, mac, MAC_LENGTH) != 0 || inner.peer != outer[1].index) fail("%s is not behind %s", INSIDE, name);

  begin();
  struct ifaddrmsg *a = message(RTM_GETADDR, NLM_F_DUMP, sizeof *a);
  a->ifa_family = AF_INET6;
  a->ifa_index = inner.index;
  ask(inside, "read addresses", NULL, NULL, 0);

  begin();
  neighbour(NLM_F_ACK, AF_INET6, outer[0].index, NUD_PERMANENT, 0, address, mac);
  ask(host, "make a neighbour of the host", NULL, NULL, 0);

  begin();
  if (former_text != NULL) {
    a = message(RTM_DELADDR, 0, sizeof *a);
    a->ifa_family = AF_INET6;
    a->ifa_prefixlen = prefix;
    a->ifa_index = inner.index;
    attribute(IFA_LOCAL, former, 16);
  }
  a = message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof *a);
  a->ifa_family = AF_INET6;
  a->ifa_prefixlen = prefix;
  a->ifa_flags = IFA_F_NODAD;
  a->ifa_index = inner.index;
  attribute(IFA_LOCAL, address, 16);
  attribute(IFA_ADDRESS, address, 16);
  neighbour(0, AF_INET6, inner.index, NUD_PERMANENT, 0, gateway, outer[0].mac);
  struct rtmsg *r = message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof *r);
  r->rtm_family = AF_INET6;
  r->rtm_table = RT_TABLE_MAIN;
  r->rtm_protocol = RTPROT_STATIC;
  r->rtm_type = RTN_UNICAST;
  attribute(RTA_GATEWAY, gateway, 16);
  u32(RTA_OIF, inner.index);
  u32(RTA_PRIORITY, ROUTE_METRIC);
  for (;;) {
    r = message(RTM_GETROUTE, NLM_F_ACK, sizeof *r);
    r->rtm_family = AF_INET6;
    r->rtm_dst_len = 128;
    attribute(RTA_DST, address, 16);
    ask(inside, "address the inner end", NULL, &local, ENETUNREACH);
    if (local) break;
    pause_shortly();
    begin();
  }
  close(inside);
  close(namespace);
  if (former_text == NULL) return;
  begin();
  struct ndmsg *n = message(RTM_DELNEIGH, NLM_F_ACK, sizeof *n);
  n->ndm_family = AF_INET6;
  n->ndm_ifindex = outer[0].index;
  attribute(NDA_DST, former, 16);
  ask(host, "forget the former neighbour", NULL, NULL, ENOENT);
}

static void detach(const char *name) {
  begin();
  link_message(RTM_DELLINK, NLM_F_ACK, 0, name);
  ask(host, "remove the pair", NULL, NULL, 0);
}

/* --- libnftables, without its headers ----------------------------------------------------------------------------- */

static void *nft_context;
static int (*nft_run)(void *, const char *);

static void nft(const char *commands) {
  if (nft_context == NULL) {
    void *library = dlopen("libnftables.so.1", RTLD_NOW);
    if (library == NULL) fail("%s", dlerror());
    void *(*make)(uint32_t) = (void *(*)(uint32_t))dlsym(library, "nft_ctx_new");
    nft_run = (int (*)(void *, const char *))dlsym(library, "nft_run_cmd_from_buffer");
    nft_context = make(0);
  }
  if (nft_run(nft_context, commands) != 0) fail("libnftables refused: %s", commands);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static void sandboxes(int count) {
  int gate[2];
  char byte;
  if (pipe(gate) < 0) fail("pipe: %s", strerror(errno));
  for (int i = 0; i < count; i++) {
    pid_t pid = fork();
    if (pid < 0) fail("fork: %s", strerror(errno));
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (unshare(CLONE_NEWNET) < 0) fail("unshare: %s", strerror(errno));
      if (write(gate[1], "x", 1) == 1)
        for (;;) pause();
      _exit(1);
    }
    if (read(gate[0], &byte, 1) != 1) fail("a sandbox ended");
    printf("%d\n", pid);
  }
  while (read(0, &byte, 1) > 0) continue;
}

int main(int count, char **arguments) {
  static char line[1 << 20];
  struct stat status;
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (count == 3 && strcmp(arguments[1], "sandboxes") == 0) {
    sandboxes(atoi(arguments[2]));
    return 0;
  }
  home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (home < 0 || fstat(home, &status) < 0) fail("no namespace: %s", strerror(errno));
  home_inode = status.st_ino;
  host = route_socket();
  configure(host);
  while (fgets(line, sizeof line, stdin) != NULL) {
    char bridge[32], link[32], mac[32], gateway[64], address[64], former[64];
    int pid, prefix;
    line[strcspn(line, "\n")] = 0;
    uint64_t began = now();
    if (sscanf(line, "attach %31s %d %31s %31s", bridge, &pid, link, mac) == 4) attach(bridge, pid, link, mac);
    else if ((count = sscanf(line, "place %31s %d %31s %31s %63s %d %63s %63s", bridge, &pid, link, mac, gateway, &prefix,
                             address, former)) >= 7)
      place(bridge, pid, link, mac, gateway, prefix, address, count == 8 ? former : NULL);
    else if (sscanf(line, "detach %31s", link) == 1) detach(link);
    else if (strncmp(line, "nft ", 4) == 0) nft(line + 4);
    else fail("unknown command: %s", line);
    printf("%llu\n", (unsigned long long)(now() - began));
  }
  return 0;
}
