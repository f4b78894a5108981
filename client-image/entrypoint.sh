#!/bin/sh
# Fills in the page, starts SSH in the background where there is a key, and becomes nginx: the page answers within
# milliseconds, SSH once its host keys are made.
set -eu

escaped() { # sets $safe: $1 as text that means nothing in HTML; a device may call itself <script>
  safe='' rest=$1
  while plain=${rest%%[\&\<\>\"\']*} && [ "$plain" != "$rest" ]; do
    rest=${rest#"$plain"}
    case $rest in
      \&*) code='&amp;' ;; \<*) code='&lt;' ;; \>*) code='&gt;' ;; \"*) code='&quot;' ;; *) code='&#39;' ;;
    esac
    safe=$safe$plain$code rest=${rest#?}
  done
  safe=$safe$rest
}

mkdir -p /run/instance/www
while IFS= read -r line || [ -n "$line" ]; do
  # What stands in for a mark is not looked at again: a device may call itself @OWNER_DUID@, too.
  done='' rest=$line
  while name=${rest#*@} && [ "$name" != "$rest" ]; do
    before=${rest%%@*} after=${name#*@} name=${name%%@*}
    case $name in
      INSTANCE) value=${ORCHESTRATOR_INSTANCE:-none} ;;
      NAME) value=${ORCHESTRATOR_NAME:-an instance} ;;
      ADDRESS) value=${ORCHESTRATOR_ADDRESS:-unknown} ;;
      HOSTNAME) value=${ORCHESTRATOR_HOSTNAME:-has no name} ;;
      OWNER_ADDRESS) value=${ORCHESTRATOR_OWNER_ADDRESS:-unknown} ;;
      OWNER_DUID) value=${ORCHESTRATOR_OWNER_DUID:-unknown} ;;
      OWNER_IAID) value=${ORCHESTRATOR_OWNER_IAID:-unknown} ;;
      *) done=$done$before@ rest=${rest#*@} && continue ;; # an @ of the page itself
    esac
    escaped "$value"
    done=$done$before$safe rest=$after
  done
  printf '%s\n' "$done$rest"
done </usr/lib/instance/page.html >/run/instance/www/index.html

if [ -n "${AUTHORIZED_KEY:-}" ]; then printf '%s\n' "$AUTHORIZED_KEY" >/run/instance/authorized_keys; fi
if [ -s /root/.ssh/authorized_keys ] || [ -s /run/instance/authorized_keys ]; then
  (
    mkdir -p /run/sshd
    key=/etc/ssh/ssh_host_ed25519_key
    [ -e "$key" ] || ssh-keygen -q -t ed25519 -N '' -f "$key"
    while :; do /usr/sbin/sshd -D -e && sleep 1; done
  ) &
fi
exec nginx -g 'daemon off;'
