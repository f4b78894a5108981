import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { bootData } from '../../orchestrator/backends/cloud/boot/boot.ts'
import { cloudOrder } from '../support/cloud-backend.ts'
import { service } from '../support/fixtures.ts'

/** A root file system with Debian's cloud-init. */
const ROOTFS = process.env['OPENSTACK_ROOTFS'] ?? ''

/** What `cloud-init schema` says about user data. */
function judged(userData: string): { readonly ok: boolean; readonly said: string } {
  const folder = mkdtempSync(join(tmpdir(), 'orc-cloud-init-'))
  try {
    writeFileSync(join(folder, 'config'), userData)
    const script = 'mount --bind "$1" "$2/mnt" && chroot "$2" cloud-init schema --config-file /mnt/config'
    const { status, stdout, stderr } = spawnSync(
      'unshare',
      ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', folder, ROOTFS],
      { encoding: 'utf8', timeout: 60_000 },
    )
    return { ok: status === 0, said: stdout + stderr }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

it('our boot data are what cloud-init itself takes for valid', () => {
  assert.notEqual(ROOTFS, '', 'npm run test:openstack says where cloud-init is')
  const files = [
    { target: '/etc/key', content: Buffer.from('x'.repeat(5000)).toString('base64'), mode: 0o444 as const },
  ]
  const order = cloudOrder(1, 1, { outputs: true, services: [service({ files }), service({ name: 'db' })] })
  const format = { boot: 'cloud-init', engine: 'docker', packages: ['docker.io'], mostBytes: 65_536 } as const
  const text = bootData(order, format)
  const { ok, said } = judged(text)
  assert.ok(ok && /Valid cloud-config/.test(said), said)
  assert.equal(judged(text.replace('runcmd:', 'runcmd: 7\nrest:')).ok, false, 'it would have told of a fault')
})
