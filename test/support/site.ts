import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { leasePlaces } from '../../lab/dnsmasq.ts'
import { LAB_NETWORK } from '../../lab/namespaces.ts'
import { Site, type SiteOptions } from '../../lab/site.ts'
import type { InstanceShape, LeaseShape } from '../../orchestrator/api/wire.ts'
import { until } from './until.ts'

/** Sandboxes that may be ready: by default pool.size 4 are kept, and as many as engine.parallel, 4, come back from failed starts. */
const MOST_READY = 8

/** A whole installation for a test; its close fails the test when anything is left. */
export async function openSite(
  options: Partial<SiteOptions> = {},
): Promise<{ site: Site; close: () => Promise<void> }> {
  const site = await Site.open({ prefix: 'orct', say: (text) => process.stderr.write(`# ${text}\n`), ...options })
  return {
    site,
    close: async () => assert.deepEqual(await site.close(), [], 'nothing is left of the site'),
  }
}

export async function instancesOf(site: Site): Promise<InstanceShape[]> {
  return (await site.orctlJson<{ items: InstanceShape[] }>('get', 'instances')).items
}

export async function leasesOf(site: Site): Promise<LeaseShape[]> {
  const { items } = await site.orctlJson<{ items: LeaseShape[] }>('get', 'leases')
  return items.filter((lease) => lease.state === 'active')
}

/** The instance of the device with this DUID once it runs and answers. */
export function reachableInstance(site: Site, duid: string, deadlineMs = 15_000): Promise<InstanceShape> {
  return until(
    `an instance of ${duid} that answers`,
    async () => (await instancesOf(site)).find((i) => i.owner.duid === duid && i.timelineMs.reachable !== undefined),
    { deadlineMs, everyMs: 50 },
  )
}

/** Owners in dnsmasq's own lease file: who should have an instance, whatever anybody else believes. */
export function leasedOwners(site: Site): string[] {
  const lines = readFileSync(leasePlaces(site.prefix).leaseFile, 'utf8').split('\n')
  const v6 = lines.slice(lines.findIndex((line) => line.startsWith('duid ')) + 1)
  return v6
    .map((line) => line.split(' '))
    .filter((fields) => fields.length >= 5)
    .map((fields) => `${fields[4]}/${fields[1]}`)
    .sort()
}

/**
 * Waits until the site has settled: exactly one wired, running instance for each lease in dnsmasq's lease file and none
 * besides, according to the orchestrator, to Docker and to the kernel's firewall, each asked on its own.
 */
export async function settled(site: Site, deadlineMs = 90_000): Promise<InstanceShape[]> {
  let last = ''
  const look = async () => {
    const owners = leasedOwners(site)
    const instances = await instancesOf(site)
    const live = instances.map((i) => `${i.owner.duid}/${i.owner.iaid}`).sort()
    const unsettled = instances.filter(
      (i) => i.state !== 'running' || i.wanted !== 'running' || i.settled !== i.generation,
    )
    const services = await serviceContainers(site)
    const expected = instances.map((i) => i.id).sort()
    const passages = await passagesOf(site)
    const { sandboxes, links } = await sandboxesOf(site)
    const wanted = instances.map((i) => `${i.ownerAddress} . ${i.address}`).sort()
    last = JSON.stringify({ owners, live, unsettled, services, expected, passages, wanted, sandboxes, links })
    const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)
    const agreed = same(owners, live) && same(services, expected) && same(passages, wanted)
    const noneLeaked = sandboxes === links && sandboxes <= instances.length + MOST_READY
    return unsettled.length === 0 && agreed && noneLeaked && instances
  }
  try {
    return await until('one wired instance per lease and none without', look, { deadlineMs, everyMs: 200 })
  } catch (error) {
    throw new Error(`the site did not settle: ${last}`, { cause: error })
  }
}

/** Instance ids of running service containers, one entry for each container. */
async function serviceContainers(site: Site): Promise<string[]> {
  const found = await site.engine.docker.listContainers({
    all: true,
    filters: { label: ['org.orchestrator.role=service'] },
  })
  return found
    .map((c) => (c.State === 'running' ? (c.Labels['org.orchestrator.instance'] ?? '?') : `${c.Names[0]}:${c.State}`))
    .sort()
}

/** How many sandboxes there are, and how many links to sandboxes the host has. */
async function sandboxesOf(site: Site): Promise<{ sandboxes: number; links: number }> {
  const found = await site.engine.containers('org.orchestrator.role=sandbox')
  const shown = await site.inside(['ip', '-o', 'link', 'show', 'master', LAB_NETWORK.instancesBridge])
  return { sandboxes: found.length, links: shown.split('\n').filter((line) => line !== '').length }
}

/** `owner . instance` for each passage that the firewall has open. */
export async function passagesOf(site: Site): Promise<string[]> {
  const text = await site.inside(['nft', '-j', 'list', 'set', 'inet', 'unionize', 'passages'])
  const { nftables } = JSON.parse(text) as { nftables: { set?: { elem?: { concat: [string, string] }[] } }[] }
  const elements = nftables.flatMap((entry) => entry.set?.elem ?? [])
  return elements.map(({ concat }) => concat.join(' . ')).sort()
}
