import { createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import type { LabMachine } from '../../lab/machine.ts'
import { MACHINES_NETWORK } from '../../lab/machines.ts'
import { shellWord } from '../../orchestrator/backends/coreos/quoting.ts'
import { APPLY, IMAGES, INSTALL, LIST, PROBE, REMOVE } from '../../orchestrator/backends/coreos/scripts.ts'
import { createFaults, type Faults, type PassingCall } from './faults.ts'

/**
 * Asked by the SSH server of a machine before each program that somebody wants to run there (sshd_config(5), ForceCommand),
 * so that it goes wrong where the faults say so: on the far side of a real, encrypted connection.
 */
export interface SshGate extends AsyncDisposable {
  readonly faults: Faults
  /** What was asked for, in order: paths of {@link PassingCall}. */
  readonly seen: readonly string[]
}

/** What only reads, and what changes something. */
const SCRIPTS = [
  { method: 'GET', path: '/probe', text: PROBE },
  { method: 'GET', path: '/list', text: LIST },
  { method: 'POST', path: '/install', text: INSTALL },
  { method: 'POST', path: '/images', text: IMAGES },
  { method: 'POST', path: '/apply', text: APPLY },
  { method: 'POST', path: '/remove', text: REMOVE },
] as const

const CONFIG = '/etc/ssh/sshd_config.d/gate.conf'
const PROGRAM = '/usr/local/sbin/ssh-gate'

/**
 * Tells the gate what is wanted, and does what it says. A cut ends the server's process of the connection, and with it all
 * that goes on over that connection.
 */
const program = (port: number) => `#!/bin/bash
server=$PPID
exec 8<>/dev/tcp/${MACHINES_NETWORK.gateway}/${port} || exit 255
say() { printf '%s\\n' "$1" >&8; }
cut() { [ "$(cat /proc/$server/comm 2>/dev/null)" = sshd ] && kill -9 $server; exit 255; }
wanted() { "$SHELL" -c "$SSH_ORIGINAL_COMMAND" 8>&-; }
kept=$(mktemp -d /run/ssh-gate-XXXXXX)
trap 'rm -rf "$kept"' EXIT
say "$(printf '%s' "$SSH_ORIGINAL_COMMAND" | base64 -w 0)"
read -r -u 8 verdict || exit 255
case $verdict in
  pass) rm -rf "$kept"; exec "$SHELL" -c "$SSH_ORIGINAL_COMMAND" 8>&- ;;
  refuse) cut ;;
  swallow) wanted >/dev/null 2>&1; say done; read -r -u 8 _; cut ;;
  # It has no end: that it began is all its effect.
  begin) wanted >/dev/null 2>&1 & say done; read -r -u 8 _; kill $!; cut ;;
  repeat) cat >"$kept/in"; wanted <"$kept/in" >/dev/null 2>&1; say done; wanted <"$kept/in" ;;
  show) wanted >"$kept/out"; code=$?; say "$(base64 -w 0 <"$kept/out")"; read -r -u 8 shown; base64 -d <<<"$shown"; exit $code ;;
esac
`

/** The process that calls this is in the network of the machines. */
export async function sshGate(machine: LabMachine): Promise<SshGate> {
  const faults = createFaults({ wrongPage: wrongList })
  const seen: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {}) // a program that was ended: its connection is over
    socket.once('close', () => sockets.delete(socket))
    void decide(faults, seen, socket).finally(() => socket.destroy())
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, MACHINES_NETWORK.gateway, resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('it does not listen on a port')
  await machine.sh(`cat >${PROGRAM}; chmod 755 ${PROGRAM}`, { input: program(address.port) })
  await machine.sh(`echo 'ForceCommand ${PROGRAM}' >${CONFIG}; systemctl reload ssh`)
  return {
    faults,
    seen,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
      await machine.sh(`rm -f ${CONFIG} ${PROGRAM}; systemctl reload ssh`)
    },
  }
}

async function decide(faults: Faults, seen: string[], socket: Socket): Promise<void> {
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]()
  const heard = async () => Buffer.from((await lines.next()).value ?? '', 'base64').toString()
  const say = (line: string) => socket.write(`${line}\n`)
  const call = callOf(await heard())
  seen.push(call.path)
  const strike = faults.strike(call)
  switch (strike?.fault) {
    case 'refuse':
      strike.hit()
      // Whoever waits for that acts first.
      setImmediate(() => say('refuse'))
      break
    case 'lose-answer':
    case 'hang':
      say(faults.streams(call) ? 'begin' : 'swallow')
      await lines.next()
      strike.hit()
      if (strike.fault === 'hang') await strike.over
      say('over')
      break
    case 'repeat':
      say('repeat')
      await lines.next()
      strike.hit()
      break
    case undefined:
      if (call.path !== '/list') {
        say('pass')
        break
      }
      say('show')
      say(Buffer.from(faults.answered(call, await heard())).toString('base64'))
  }
  await lines.next() // its end
}

function callOf(command: string): PassingCall {
  const script = SCRIPTS.find(({ text }) => command.includes(shellWord(text)))
  if (script !== undefined) return { method: script.method, path: script.path, body: '' }
  const follows = /^journalctl .* -f /.test(command)
  return { method: 'GET', path: follows ? '/events' : `/${command.split(' ')[0]}`, body: command }
}

/** What the machine had before, or nothing at all; null: it is no list, or an empty one. */
function wrongList({ path }: PassingCall, text: string, earlier: string | undefined): string | null {
  if (path !== '/list') return null
  const empty = text
    .split('\n')
    .filter((line) => line === '' || line.startsWith('%% '))
    .join('\n')
  if (empty === text) return null
  return earlier !== undefined && earlier !== text ? earlier : empty
}
