import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { OPENSTACK_NAMESPACE, openStackMachine, removeOpenStackMachine } from './machine.ts'

const usage = `npm run test:openstack [-- OPTIONS] [PART…]

Makes an OpenStack from Debian's packages (Keystone, Glance, Placement, Neutron, and Nova with its fake driver) in a systemd
machine of its own, runs the tests in test/openstack against it, and removes it. Takes minutes, 2 GiB of memory and, in the
cache, 2 GB of disk.

PART      the beginning of a test file's name; all unless named
--record  writes what passed between us and it to test/fixtures/openstack, for the ordinary tests to replay
--keep    leaves it running; the next run removes it
--remove  only removes one that was kept
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    record: { type: 'boolean' },
    keep: { type: 'boolean' },
    remove: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit(0)
}

if (values.remove) {
  await removeOpenStackMachine()
  process.exit(0)
}

const stopping = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => stopping.abort(new Error(`ended by ${name}`)))
}
const say = (text: string): void => void process.stderr.write(`openstack: ${text}\n`)

/** Milliseconds for one file: the contract suite lets every single call go wrong, in every way. */
const FILE_MS = 3_600_000

/** Runs node's tests where OpenStack is. @returns whether all passed */
function tests(rootfs: string): Promise<boolean> {
  const files = globSync('test/openstack/*.test.ts')
    .filter((file) => positionals.length === 0 || positionals.some((part) => file.startsWith(`test/openstack/${part}`)))
    .sort()
  const own = ['--test', '--test-concurrency=1', `--test-timeout=${FILE_MS}`, ...files]
  return new Promise((resolve) => {
    const child = spawn('nsenter', [`--net=/run/netns/${OPENSTACK_NAMESPACE}`, '--', process.execPath, ...own], {
      stdio: 'inherit',
      signal: stopping.signal,
      env: { ...process.env, OPENSTACK_ROOTFS: rootfs, ...(values.record && { RECORD_OPENSTACK: '1' }) },
    })
    child.once('error', () => resolve(false))
    child.once('exit', (code) => resolve(code === 0))
  })
}

const machine = await openStackMachine(say, stopping.signal)
try {
  process.exitCode = (await tests(machine.rootfs)) ? 0 : 1
} finally {
  if (values.keep) {
    say('left running')
    // What was started goes on without this process, which would wait for it.
    process.exit()
  }
  await machine.close()
}
