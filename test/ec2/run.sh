#!/bin/sh
# `npm run test:ec2`: the EC2 provider against moto, which answers like AWS, and the orchestrator killed at each call of the
# providers that have no such tests of their own. Installs moto from PyPI into node_modules/.cache at the first run (about
# 120 MB, a minute or two); takes half an hour, backend.test.ts alone four minutes; needs no root and reaches no AWS.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PWD/node_modules/.bin:$PATH
export PATH
version=5.2.5
venv=node_modules/.cache/moto-$version
say() { printf 'test:ec2: %s\n' "$*" >&2; }
if [ ! -e "$venv/.complete" ]; then
  python3 -c 'import ensurepip, venv' 2>/dev/null || {
    say 'python3 with venv is missing: apt-get install python3-venv'
    exit 1
  }
  say "installing moto $version from PyPI …"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "moto[server]==$version" >&2
  touch "$venv/.complete"
fi
MOTO_SERVER=$PWD/$venv/bin/moto_server
# kill.test.ts starts the orchestrator anew at each of some forty calls.
TEST_FILE_MINUTES=30
export MOTO_SERVER TEST_FILE_MINUTES
if [ $# -gt 0 ]; then exec node --import ./test/support/in-time.ts --test --test-timeout=1800000 "$@"; fi
exec node --import ./test/support/in-time.ts --test --test-concurrency=1 --test-timeout=1800000 test/ec2/*.test.ts
