import { NETWORK_UNIT, PLACES, SANDBOX_IMAGE, UNIONIZE } from './names.ts'
import { unitWord } from './quoting.ts'

/*
 * What runs on machines, as POSIX shell with GNU coreutils, util-linux and systemd, as Fedora CoreOS, Flatcar and Debian
 * have them. Each may be ended at any moment and run again. Arguments are no secrets; secrets come by standard input.
 */

/** Exit codes of ours, of those that sysexits.h leaves free. */
export const CODES = { stale: 90, foreign: 91, full: 92, notInstalled: 93, engineAway: 94 } as const

/** `lock NAME`: one change of an instance at a time; also where whoever had it has taken the file away. */
const LOCK = `lock() {
  mkdir -p -m 700 ${PLACES.memory}
  while :; do
    exec 9>"${PLACES.memory}/.lock-$1"
    flock -w 60 9 || { echo "another change of $1 has been under way for a minute" >&2; exit 75; }
    [ "${PLACES.memory}/.lock-$1" -ef /proc/self/fd/9 ] && return
  done
}
`
/** `field NAME FILE`: what a unit file says of itself; nothing where there is no file. */
const FIELD = `field() { sed -n "s/^$1=//p" "$2" 2>/dev/null | head -n 1; }
# The newest generation that any file of the instance is of.
newest() { cat ${PLACES.units}/orc-"$1".target ${PLACES.units}/orc-"$1"-*.service ${PLACES.quadlets}/orc-"$1"-*.container 2>/dev/null | sed -n 's/^Generation=//p' | sort -n | tail -n 1; }
owned() { cat ${PLACES.units}/orc-"$1".target ${PLACES.units}/orc-"$1"-*.service ${PLACES.quadlets}/orc-"$1"-*.container 2>/dev/null | sed -n 's/^Installation=//p' | head -n 1; }
`

/** Prints what the machine is, a word and its value each line. Changes nothing. */
export const PROBE = `echo "boot $(cat /proc/sys/kernel/random/boot_id)"
echo "machine $(uname -m)"
echo "clock $(date +%s%3N)"
echo "uid $(id -u)"
echo "systemd $(systemctl --version 2>/dev/null | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p')"
. /etc/os-release; echo "system \${PRETTY_NAME:-Linux}"
for engine in podman docker; do
  path=$(command -v $engine) || continue
  echo "$engine-path $path"
  # Of the client alone: \`podman version 4.3.1\`, \`Docker version 20.10.24+dfsg1, build …\`.
  echo "$engine $($path --version 2>/dev/null | grep -o '[0-9][0-9.]*[0-9]' | head -n 1)"
done
# Podman has no daemon; that of Docker may be started by its first client.
[ -n "$(command -v podman)" ] && echo "podman-answers yes"
[ -S /run/docker.sock ] && docker info >/dev/null 2>&1 && echo "docker-answers yes"
for generator in /usr/lib/systemd/system-generators /lib/systemd/system-generators /usr/local/lib/systemd/system-generators; do
  [ -x $generator/podman-system-generator ] && echo "quadlet yes" && break
done
echo "free $(( $(stat -f -c '%a * %S' /var) ))"
echo "unionize $(basename "$(readlink ${PLACES.program}/current 2>/dev/null)")"
for program in tar gzip sed flock mount mountpoint base64 dd ip journalctl; do command -v $program >/dev/null || echo "lacks $program"; done
[ "$(systemctl is-active unionize 2>/dev/null)" = active ] && echo "host yes"
ldconfig -p 2>/dev/null | grep -q 'libnftables\\.so\\.1' || [ -e /usr/lib64/libnftables.so.1 ] || echo "lacks libnftables.so.1"
exit 0
`

/**
 * Installs a version of unionize from a gzipped tar on standard input, switches to it at once, and makes the bridge.
 * $1: version, $2: 0 where it is there already and only the rest is looked after, $3: the settings of unionize,
 * $4: the unit of the bridge, $5: the engine's program, $6: what systemd-networkd is told of our links.
 */
export const INSTALL = `set -eu
umask 022
mkdir -p ${PLACES.program} /etc/orchestrator
exec 9>${PLACES.program}/.lock
flock -w 120 9
if [ ! -d ${PLACES.program}/"$1" ]; then
  [ "$2" = 1 ] || { cat >/dev/null; exit ${CODES.notInstalled}; }
  rm -rf ${PLACES.program}/.partial-*
  partial=$(mktemp -d ${PLACES.program}/.partial-XXXXXX)
  chmod 755 "$partial"
  tar -xzf - -C "$partial" --no-same-owner || { rm -rf "$partial"; exit ${CODES.full}; }
  sync -f "$partial"
  mv "$partial" ${PLACES.program}/"$1"
fi
write() { # PATH TEXT: 0 when it had to be written
  [ "$(cat "$1" 2>/dev/null)" = "$2" ] && return 1
  printf '%s\\n' "$2" >"$1.new" && mv "$1.new" "$1" || exit ${CODES.full}
}
write ${PLACES.settings} "$3" || :
# What manages the machine's own network leaves ours alone.
mkdir -p /etc/systemd/network
if write /etc/systemd/network/05-orc.network "$6" && systemctl -q is-active systemd-networkd; then networkctl reload 2>/dev/null || :; fi
if [ "$(readlink ${PLACES.program}/current 2>/dev/null)" != "$1" ]; then
  ln -sfn "$1" ${PLACES.program}/.current
  mv -T ${PLACES.program}/.current ${PLACES.program}/current
  # The former one may still be running somewhere; those before it are not.
  ls -dt ${PLACES.program}/*/ | grep -v "/current/\\|/$1/" | tail -n +2 | while read -r old; do rm -rf "$old"; done
fi
if write ${PLACES.units}/${NETWORK_UNIT} "$4"; then systemctl daemon-reload; systemctl --quiet enable ${NETWORK_UNIT} 2>/dev/null; systemctl restart ${NETWORK_UNIT}; fi
systemctl start ${NETWORK_UNIT}
if ! "$5" image inspect ${SANDBOX_IMAGE} >/dev/null 2>&1 9>&-; then
  # Whole or not at all: half of it would be an image, too.
  image=$(mktemp ${PLACES.program}/.partial-XXXXXX)
  ${UNIONIZE} sandbox-image >"$image" && "$5" import --change 'ENTRYPOINT ["/pause"]' --change 'USER 65534:65534' "$image" ${SANDBOX_IMAGE} >/dev/null 9>&- || { rm -f "$image"; exit ${CODES.full}; }
  rm -f "$image"
fi
`

/**
 * Puts the files of an instance in place, from a tar on standard input, and starts it. What is the same but for its
 * generation goes on running. $1: instance, $2: generation, $3: digest, $4: installation.
 */
export const APPLY = `set -eu
umask 077
${LOCK}${FIELD}lock "$1"
had=$(newest "$1")
if [ -n "$had" ] && [ "$had" -gt "$2" ]; then echo "$had"; cat >/dev/null; exit ${CODES.stale}; fi
owner=$(owned "$1")
if [ -n "$owner" ] && [ "$owner" != "$4" ]; then cat >/dev/null; exit ${CODES.foreign}; fi
mkdir -p -m 700 ${PLACES.kept}
mkdir -p -m 755 ${PLACES.units}
rm -rf ${PLACES.memory}/"$1".new ${PLACES.kept}/"$1".new
new=${PLACES.memory}/$1.new
mkdir -m 700 "$new"
# In memory first: a disk that fills up leaves no half of it in force.
tar -xf - -C "$new" --no-same-owner || { rm -rf "$new"; exit ${CODES.full}; }
if [ "$(field Digest ${PLACES.units}/orc-"$1".target)" != "$3" ]; then
  # No longer whole, until the target is written anew.
  if [ -e ${PLACES.units}/orc-"$1".target ]; then
    systemctl stop "orc-$1.target" $(cd ${PLACES.units} && ls -d orc-"$1"-* 2>/dev/null) $(cd ${PLACES.quadlets} 2>/dev/null && ls -d orc-"$1"-* 2>/dev/null | sed 's/\\.container$/.service/') 9>&- || :
    rm -f ${PLACES.units}/orc-"$1".target
  fi
  rm -f ${PLACES.memory}/"$1"/complete
fi
put() { # FOLDER
  [ -d "$new/files$1" ] || return 0
  mkdir -p "$1"
  (cd "$new/files$1" && find . -type f) | while read -r file; do
    mkdir -p "$1/$(dirname "$file")"
    cp -p "$new/files$1/$file" "$1/$file.orc-new" && mv "$1/$file.orc-new" "$1/$file" || { rm -f "$1/$file.orc-new"; exit 1; }
  done
}
mkdir -p -m 700 ${PLACES.memory}/"$1" ${PLACES.kept}/"$1"
put ${PLACES.kept}/"$1" && put ${PLACES.memory}/"$1" && { [ ! -d "$new/files${PLACES.quadlets}" ] || { mkdir -p -m 755 ${PLACES.quadlets} && put ${PLACES.quadlets}; }; } || { rm -rf "$new"; exit ${CODES.full}; }
# Of a former order.
for file in ${PLACES.units}/orc-"$1"-* ${PLACES.quadlets}/orc-"$1"-*; do
  [ -e "$file" ] && [ ! -e "$new/files$file" ] && rm -f "$file"
done
target=$new/files${PLACES.units}/orc-$1.target
mv "$target" "$new/target"
put ${PLACES.units} && { sync -f ${PLACES.units} || :; } && cp -p "$new/target" ${PLACES.units}/orc-"$1".target.orc-new && mv ${PLACES.units}/orc-"$1".target.orc-new ${PLACES.units}/orc-"$1".target || { rm -rf "$new" ${PLACES.units}/orc-"$1".target.orc-new; exit ${CODES.full}; }
rm -rf "$new"
: >${PLACES.memory}/"$1"/complete
systemctl daemon-reload
systemctl --quiet enable "orc-$1.target" 2>/dev/null
systemctl start --no-block "orc-$1.target" 9>&-
# The target starts them only when it starts itself; what ended as it may stays ended.
for unit in $(sed -n 's/^Wants=//p' ${PLACES.units}/orc-"$1".target); do
  ran=$(systemctl show -p ActiveState -p Restart -p ExecMainExitTimestampMonotonic "$unit" | sort | tr '\\n' ' ')
  case $ran in
    "ActiveState=active "*) ;;
    "ActiveState=inactive ExecMainExitTimestampMonotonic=0 "* | *"Restart=always "*) systemctl start --no-block "$unit" 9>&- ;;
    "ActiveState=failed "*"Restart=on-failure "*) systemctl start --no-block "$unit" 9>&- ;;
    "ActiveState=inactive Restart="*) ;;
    "ActiveState=inactive "*) case $unit in *.path) systemctl start --no-block "$unit" 9>&- ;; esac ;;
  esac
done
`

/**
 * Takes an instance away with all that was made for it. $1: instance, $2: generation, $3: installation, $4…: engines. Where the
 * one that runs the instance does not answer, it prints which, and takes nothing away.
 */
export const REMOVE = `set -eu
umask 077
${LOCK}${FIELD}instance=$1
lock "$1"
had=$(newest "$1")
if [ -n "$had" ] && [ "$had" -gt "$2" ]; then echo "$had"; exit ${CODES.stale}; fi
owner=$(owned "$1")
if [ -n "$owner" ] && [ "$owner" != "$3" ]; then rm -f ${PLACES.memory}/.lock-"$1"; exit 0; fi
shift 3
for engine; do
  "$engine" ps -q >/dev/null 2>&1 9>&- && continue
  if cat ${PLACES.units}/orc-"$instance"-*.service ${PLACES.quadlets}/orc-"$instance"-*.container 2>/dev/null | grep -qF "\\"$engine\\""; then echo "$engine"; exit ${CODES.engineAway}; fi
  away="\${away-} $engine "
done
units=$(cd ${PLACES.units} && ls -d orc-"$instance".target orc-"$instance"-* 2>/dev/null || :)
quadlets=$( { cd ${PLACES.quadlets} 2>/dev/null && ls -d orc-"$instance"-* 2>/dev/null | sed 's/\\.container$/.service/'; } || :)
# Those of a unit whose file is gone already are loaded as long as they run.
loaded=$(systemctl list-units --all --plain --no-legend --full "orc-$instance-*" "orc-$instance.target" | cut -d ' ' -f 1)
all=$(printf '%s\\n' $units $quadlets $loaded | sort -u)
if [ -n "$all" ]; then
  systemctl --quiet disable "orc-$instance.target" 2>/dev/null || :
  systemctl stop $all 9>&- 2>/dev/null || :
fi
for engine; do
  case "\${away-}" in *" $engine "*) continue ;; esac
  # By label: what an engine was killed amid removing has no name any more.
  left=$("$engine" ps -aq --filter "label=org.orchestrator.instance=$instance" 9>&-)
  [ -z "$left" ] || "$engine" rm -f -v $left >/dev/null 9>&-
  left=$("$engine" volume ls -q --filter "name=^orc-$instance-v-" 9>&-)
  [ -z "$left" ] || "$engine" volume rm -f $left >/dev/null 9>&-
done
if mountpoint -q ${PLACES.memory}/"$instance"/outputs; then umount -l ${PLACES.memory}/"$instance"/outputs; fi
rm -rf ${PLACES.memory}/"$instance" ${PLACES.memory}/"$instance".new ${PLACES.kept}/"$instance" ${PLACES.quadlets}/orc-"$instance"-*
# The target last: as long as it is there, it is listed, and removed again.
rm -f ${PLACES.units}/orc-"$instance"-* ${PLACES.units}/multi-user.target.wants/orc-"$instance".target
rm -f ${PLACES.units}/orc-"$instance".target*
systemctl daemon-reload
[ -z "$all" ] || systemctl reset-failed $all 2>/dev/null || :
rm -f ${PLACES.memory}/.lock-"$instance"
`

/**
 * Prints what stands there of an installation, in parts. $1: installation, $2: the engine, or nothing where health checks
 * are not asked for, $3: one instance, or nothing for all of them.
 */
export const LIST = `cd ${PLACES.units}
set -- "$1" "$2" "$3" "$(find ${PLACES.units} ${PLACES.quadlets} -maxdepth 1 -type f \\( -name "orc-\${3:-*}.target" -o -name "orc-\${3:-*}-*.service" -o -name "orc-\${3:-*}-*.container" \\) 2>/dev/null | xargs -r grep -l "^Installation=$1$")"
echo '%% files'
[ -z "$4" ] || grep -H -E '^(Instance|Generation|Address|Digest|Wants)=' $4 /dev/null
echo '%% units'
names=$(for file in $4; do basename "$file" .container; done | sed 's/^\\(.*-s-[^.]*\\)$/\\1.service/' | sort -u)
[ -z "$names" ] || systemctl show $names -p Id -p LoadState -p ActiveState -p SubState -p Result -p Restart -p NRestarts -p Job -p ExecMainStatus -p ExecMainExitTimestampMonotonic || exit 1
echo '%% containers'
# An engine that is away is seen by its units.
[ -z "$4" ] || [ -z "$2" ] || "$2" ps -a --filter name=^orc- --format '{{.Names}} {{.Status}}' 2>/dev/null || :
echo '%% complete'
ls -d ${PLACES.memory}/*/complete 2>/dev/null
echo '%% outputs'
for folder in ${PLACES.memory}/\${3:-*}/outputs; do
  # A link, a pipe or a device is no file of the instance's, and nobody waits for it.
  [ -f "$folder/outputs.json" ] && [ ! -L "$folder/outputs.json" ] || continue
  id=\${folder%/outputs}
  printf '%s ' "\${id##*/}"
  dd if="$folder/outputs.json" iflag=nofollow,nonblock,fullblock bs=65537 count=1 2>/dev/null | base64 -w 0
  echo
done
echo '%% end'
`

/**
 * Looks for images, and has those fetched that are missing; never waits for one. $1: the engine, $2: the instance, then for
 * each image three words: `missing`, `always` or `never`, its name, and a name by which it is fetched. Prints a line for
 * each: `have`, `fetching`, `absent`, or `failed` and why.
 */
export const IMAGES = `set -eu
engine=$1 instance=$2
shift 2
while [ $# -gt 0 ]; do
  policy=$1 name=$2 from=$3
  shift 3
  there=no
  "$engine" image inspect "$name" >/dev/null 2>&1 && there=yes
  if [ $policy = missing ] && [ $there = yes ]; then echo have; continue; fi
  if [ $policy = never ]; then [ $there = yes ] && echo have || echo absent; continue; fi
  unit=orc-$instance-pull-$(printf '%s' "$from" | cksum | cut -d ' ' -f 1).service
  case $(systemctl show -P ActiveState "$unit") in
    active) echo have ;;
    activating) echo fetching ;;
    failed)
      echo "failed $(journalctl -q --no-pager -o cat -n 3 "_SYSTEMD_UNIT=$unit" | tr '\\n' ' ')"
      systemctl reset-failed "$unit" ;;
    *)
      # Stays active when it is done: what is always to be fetched, is fetched once for an instance.
      systemd-run --quiet --no-block --unit="$unit" --property=Type=oneshot --property=RemainAfterExit=yes \\
        --property=TimeoutStartSec=1800 "$engine" pull -q "$from" && echo fetching ;;
  esac
done
`

/** The unit of the bridge. Router advertisements are heard although the machine forwards (ip-sysctl: accept_ra). */
export function networkUnit(network: { bridge: string; gateway: string; prefixLength: number }): string {
  const { bridge, gateway, prefixLength } = network
  const commands = [
    `mkdir -p -m 700 ${PLACES.memory}`,
    `ip link show ${bridge} >/dev/null 2>&1 || ip link add name ${bridge} type bridge mcast_snooping 0`,
    `ip link set dev ${bridge} up`,
    `ip -6 address replace ${gateway}/${prefixLength} dev ${bridge} nodad`,
    'for f in /proc/sys/net/ipv6/conf/*/accept_ra; do if [ "$(cat "$f")" = 1 ]; then echo 2 >"$f"; fi; done',
    'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding',
  ]
  return `[Unit]
Description=Bridge of instances
After=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec ${unitWord(commands.join('; '))}

[Install]
WantedBy=multi-user.target`
}
