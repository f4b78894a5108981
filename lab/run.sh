#!/bin/sh
# Makes this machine ready for the lab, then becomes `node "$@"`: what `npm run demo`, `npm test` and the benches start with.
# Needs Debian 12 or newer, root, npm and Node 20 or newer; installs what else is missing and says so. It refuses, naming
# what is missing, rather than leave something out. Everything it says goes to stderr. Nothing to do: under a second.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export PATH
umask 022
lock=/run/orchestrator-lab.lock
policy=/usr/sbin/policy-rc.d
policy_mark='# made by lab/run.sh for the time of one apt-get'
cluster=/etc/postgresql-common/createcluster.conf
log=/var/log/orchestrator-lab-setup.log

say() { printf 'lab: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
timed() { # WHAT COMMAND…: says what, runs it with its output in the log, says how long it took; shows the log if it fails
  what=$1 began=$(date +%s%N)
  shift
  say "$what …"
  if ! "$@" >"$log" 2>&1 </dev/null; then
    # The reason stands first with npm, last with apt.
    if [ "$(wc -l <"$log")" -le 60 ]; then cat "$log" >&2; else { head -n 30 "$log"; echo '[…]'; tail -n 20 "$log"; } >&2; fi
    fail "$what: failed (all of it in $log)"
  fi
  say "$what: done in $((($(date +%s%N) - began) / 1000000)) ms"
}

[ "$(id -u)" = 0 ] || fail 'must be run as root: it makes network namespaces, bridges and firewall rules of its own'
[ $# -gt 0 ] || fail 'usage: lab/run.sh FILE.ts [ARGUMENT…]'
[ -e /etc/debian_version ] || fail 'made for Debian 12 or newer: no /etc/debian_version here'

# --- One lab at a time: the lock lives as long as this process, which becomes node ------------------------------------
if [ -z "${LAB_LOCK_HELD:-}" ] && command -v flock >/dev/null; then
  exec 9<>"$lock"
  flock -n 9 || fail "another lab runs on this machine: $(head -n 1 "$lock" 2>/dev/null || true)"
  printf 'process %s: %s\n' $$ "$*" >"$lock"
  export LAB_LOCK_HELD=$$
fi

# --- Debian packages, only those that are missing ---------------------------------------------------------------------
unpolicy() { # takes away only what a run of ours put there, also one that was killed
  if grep -qsxF "$policy_mark" "$policy"; then rm -f "$policy"; fi
  if grep -qsxF "$policy_mark" "$cluster"; then rm -f "$cluster"; fi
}
engine_answers() { [ -S /var/run/docker.sock ] && docker version >/dev/null 2>&1; }
missing=''
need() { # PACKAGE COMMAND…
  package=$1
  shift
  for file; do command -v "$file" >/dev/null || { missing="$missing $package" && return; }; done
}
need iproute2 ip
need util-linux unshare nsenter setpriv flock mount
need procps ps sysctl
need nftables nft
need dnsmasq-base dnsmasq
need dhcpcd-base dhcpcd
need mmdebstrap mmdebstrap
need shellcheck shellcheck
need strace strace
need curl curl
need kea-dhcp4-server kea-dhcp4
need kea-dhcp6-server kea-dhcp6
need openvpn openvpn
need openvswitch-switch ovs-vswitchd ovsdb-server ovs-vsctl
need systemd systemd-analyze systemd-sysusers
need passwd userdel groupdel
need docker-registry docker-registry
need git git
need zip zip
need patch patch
need busybox busybox
need openssl openssl
need ignition ignition-validate
need systemd-container systemd-nspawn
need openssh-client ssh ssh-keygen
need e2fsprogs mkfs.ext4
command -v dockerd >/dev/null || engine_answers || missing="$missing docker.io"
ldconfig -p | grep -q 'libnftables\.so\.1 ' || missing="$missing libnftables1"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"

unpolicy
if [ -n "$missing" ]; then
  trap 'unpolicy' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  # A package must start no service and make no database cluster on somebody's machine just because a demo was tried.
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >"$policy"
    chmod 755 "$policy"
  fi
  case $missing in *postgresql*)
    if [ ! -e "$cluster" ]; then
      mkdir -p "${cluster%/*}"
      printf '%s\ncreate_main_cluster = false\n' "$policy_mark" >"$cluster"
    fi ;;
  esac
  export DEBIAN_FRONTEND=noninteractive
  timed 'refreshing the package lists' apt-get -q update
  # shellcheck disable=SC2086 # a list of names
  timed "installing$missing" apt-get -q -y --no-install-recommends \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install $missing
  unpolicy
  trap - EXIT INT TERM HUP
fi

# --- Kernel features, each tried for real in namespaces of its own that end with the try ------------------------------
lacking=''
try() { # FEATURE SCRIPT
  unshare --net --mount --propagation private sh -ec "$2" >/dev/null 2>&1 || lacking="$lacking
  - $1"
}
try 'network and mount namespaces' 'true'
try 'veth pairs' 'ip link add name ve0 type veth peer name ve1'
try 'bridges' 'ip link add name br0 type bridge'
try 'IPv6' 'test -e /proc/sys/net/ipv6/conf/all/forwarding && ip link set lo up && ip -6 address add fd00::1 dev lo'
try 'nftables with inet, conntrack, NAT and maps' 'nft -f - <<E
table inet t {
  map m { type ipv6_addr : ipv6_addr; }
  set s { type ipv6_addr . ipv6_addr; }
  chain n { type nat hook prerouting priority dstnat; dnat ip6 to ip6 saddr map @m; }
  chain f { type filter hook forward priority filter; ct state established accept; ip6 saddr . ip6 daddr @s accept; reject; }
}
E'
try 'nftables in the bridge family' 'nft -f - <<E
table bridge t {
  set s { type ifname . ether_addr . ipv6_addr; }
  chain f { type filter hook forward priority filter; iifname . ether saddr . ip6 saddr @s accept; drop; }
}
E'
try 'overlay file systems' 'mount -t tmpfs t /mnt && cd /mnt && mkdir l u w m && mount -t overlay -o lowerdir=l,upperdir=u,workdir=w o m'
[ -d /sys/fs/cgroup ] && grep -q cgroup /proc/mounts || lacking="$lacking
  - mounted control groups (/sys/fs/cgroup)"
[ -z "$lacking" ] || fail "this kernel, or the container we are in, lacks:$lacking"

# --- npm packages, Node 24 among them ----------------------------------------------------------------------------------
stamp=node_modules/.installed-lock
installed() {
  if [ -e "$stamp" ]; then cmp -s package-lock.json "$stamp" && return; return 1; fi
  # Installed by hand, not by us: as good as the lock file unless that is newer.
  [ -e node_modules/.package-lock.json ] && [ -z "$(find package-lock.json -newer node_modules/.package-lock.json)" ]
}
if ! installed; then
  command -v npm >/dev/null || fail 'npm is missing: install Node 20 or newer with npm first'
  timed 'installing npm packages' npm ci --no-audit --no-fund
  cp package-lock.json "$stamp"
fi
node=node_modules/.bin/node
[ -x $node ] || node=node
major=$($node -p 'process.versions.node.split(".")[0]' 2>/dev/null) || fail 'no Node.js: neither in node_modules nor in PATH'
[ "$major" -ge 24 ] || fail "Node 24 or newer is needed, found $major; for this machine's architecture npm offers none: install it and try again"
exec $node "$@"
