import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type Docker from 'dockerode'
import ssh2 from 'ssh2'
import { run } from '../../lab/command.ts'
import { LabEngine } from '../../lab/engine.ts'
import { buildSampleImage } from '../../lab/images.ts'
import { clearLab, whatIsLeft } from '../../lab/lab.ts'
import { until } from '../support/until.ts'

const PREFIX = 'li'
const LABEL = 'org.orchestrator.test=lab-image'
const CAPABILITIES = ['CHOWN', 'DAC_OVERRIDE', 'NET_BIND_SERVICE', 'SETGID', 'SETUID', 'SYS_CHROOT']
const say = (text: string): void => console.error(`# ${text}`)

let engine: LabEngine
let image: string

before(async () => {
  engine = await LabEngine.open(PREFIX, say)
  image = await buildSampleImage(engine, say)
})
after(async () => {
  await engine.removeContainers(LABEL)
  await clearLab(PREFIX, engine)
  assert.deepEqual(whatIsLeft(PREFIX), [])
})

interface Running {
  readonly container: Docker.Container
  readonly startedAt: number
  /** Runs a program in its network namespace. */
  readonly inside: (command: readonly string[]) => Promise<string>
}

async function start(environment: Readonly<Record<string, string>>): Promise<Running> {
  const container = await engine.docker.createContainer({
    Image: image,
    Env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    Labels: { 'org.orchestrator.test': 'lab-image' },
    HostConfig: {
      NetworkMode: 'none',
      Sysctls: { 'net.ipv6.conf.all.disable_ipv6': '0' },
      CapDrop: ['ALL'],
      CapAdd: CAPABILITIES,
      SecurityOpt: ['no-new-privileges'],
      PidsLimit: 32,
      Memory: 128 * 1024 * 1024,
    },
  })
  await container.start()
  const startedAt = performance.now()
  const pid = String((await container.inspect()).State.Pid)
  const inside = (command: readonly string[]): Promise<string> => run('nsenter', ['-t', pid, '-n', '--', ...command])
  return { container, startedAt, inside }
}

/** Its page, fetched from inside its namespace until it answers. */
function page(of: Running): Promise<string> {
  const script = "fetch('http://[::1]/').then(async (r) => console.log(r.status, await r.text()))"
  return until('the page', async () => {
    try {
      return await of.inside([process.execPath, '-e', script])
    } catch {
      return undefined // not yet
    }
  })
}

test('the page shows whose instance it is, with few capabilities, no new privileges and 32 processes', async () => {
  const running = await start({
    ORCHESTRATOR_INSTANCE: 'i-7',
    ORCHESTRATOR_NAME: 'laptop',
    ORCHESTRATOR_ADDRESS: 'fd00:1::9805',
    ORCHESTRATOR_OWNER_DUID: '00:03:00:01:02:00:00:00:00:01',
    ORCHESTRATOR_OWNER_IAID: '12',
    ORCHESTRATOR_OWNER_ADDRESS: 'fd00:c::9805',
    ORCHESTRATOR_HOSTNAME: 'laptop',
  })
  const html = await page(running)
  assert.match(html, /^200 /)
  for (const shown of ['i-7', 'laptop', 'fd00:1::9805', '00:03:00:01:02:00:00:00:00:01', '12', 'fd00:c::9805']) {
    assert.ok(html.includes(`>${shown}<`), shown)
  }
  assert.doesNotMatch(html, /@[A-Z_]+@/)
})

test('what a device calls itself is text, never HTML and never a mark of the page', async () => {
  const hostname = `<script>alert("1 & 'x'")</script>@OWNER_DUID@`
  const html = await page(await start({ ORCHESTRATOR_HOSTNAME: hostname, ORCHESTRATOR_NAME: '</title><b>' }))
  assert.doesNotMatch(html, /<script|<b>/)
  assert.ok(html.includes('&lt;script&gt;alert(&quot;1 &amp; &#39;x&#39;&quot;)&lt;/script&gt;@OWNER_DUID@'))
})

test('SSH lets in the key given at start and no other, with host keys of its own', async () => {
  const key = ssh2.utils.generateKeyPairSync('ed25519')
  const stranger = ssh2.utils.generateKeyPairSync('ed25519')
  const [one, other] = await Promise.all([start({ AUTHORIZED_KEY: key.public }), start({ AUTHORIZED_KEY: key.public })])
  const login = (where: Running, privateKey: string): Promise<string> =>
    where.inside([process.execPath, join(import.meta.dirname, '../support/ssh-login.ts'), privateKey])
  const first = await until('a login', () => login(one, key.private).catch(() => undefined), {
    everyMs: 100,
    deadlineMs: 30_000,
  })
  assert.match(first, /^uid=0\n/)
  await assert.rejects(login(one, stranger.private), /authentication methods failed/)
  const second = await until('a login', () => login(other, key.private).catch(() => undefined), {
    everyMs: 100,
    deadlineMs: 30_000,
  })
  assert.notEqual(first.split('\n')[1], second.split('\n')[1], 'two instances have the same host key')
})

test('without a key no SSH server runs, and the image holds no host key', async () => {
  const running = await start({})
  await page(running)
  const processes = (await running.container.top()).Processes.flat().join(' ')
  assert.doesNotMatch(processes, /sshd/)
  const list = await running.container.getArchive({ path: '/etc/ssh' })
  const names: Buffer[] = []
  for await (const chunk of list) names.push(chunk as Buffer)
  const archive = Buffer.concat(names)
  assert.ok(archive.includes('ssh/sshd_config\0'), 'this test would see a file')
  assert.ok(!archive.includes('\0ssh/ssh_host_'), 'a host key is part of the image')
})

test('it stops at once when asked', async () => {
  // A machine that stalls is slow now and then, an image that waits for something is slow each time.
  let fastest = Number.POSITIVE_INFINITY
  for (let tries = 0; tries < 3 && fastest >= 3000; tries++) {
    const running = await start({})
    await page(running)
    const began = performance.now()
    await running.container.stop({ t: 60 })
    fastest = Math.min(fastest, performance.now() - began)
    assert.equal((await running.container.inspect()).State.ExitCode, 0)
  }
  assert.ok(fastest < 3000, `${fastest} ms`)
})
