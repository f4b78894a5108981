import { createHash } from 'node:crypto'
import { suggestion } from '../../../common/config.ts'
import { HostUnreachable, InvalidInput, NoRoom } from '../../../common/errors.ts'
import type { HostName } from '../../domain/host.ts'
import type { Template } from '../../domain/template.ts'
import { type Backend, type BackendContext, type BackendKind, CONTRACT_VERSION } from '../backend.ts'
import { createGenerations } from '../generations.ts'
import { checkTemplateNetworks } from '../one-network.ts'
import { bootData } from './boot/boot.ts'
import { providers } from './kinds.ts'
import { createNotes } from './notes.ts'
import { createPace } from './pace.ts'
import type { Provider, ProviderKind } from './provider.ts'
import { createRegion, type Region } from './region.ts'
import { type CloudOptions, type CloudSettings, parseOptions, parseSettings } from './settings.ts'

/** Machines of a cloud: each instance is one, of which its owner's host knows the address. */
export const backend: BackendKind = {
  contract: CONTRACT_VERSION,
  async create(given, context) {
    const settings = parseSettings(given)
    const load = providers[settings.provider.kind]
    if (load === undefined) throw new InvalidInput('settings.provider.kind', `there is no ${settings.provider.kind}`)
    return cloudBackend(settings, context, (await load()).provider)
  },
}

/** @throws InvalidInput naming the setting that the provider does not take */
export function cloudBackend(settings: CloudSettings, context: BackendContext, kind: ProviderKind): Backend {
  const regions = makeRegions(settings, context, kind)
  const region = (target: string): { readonly region: Region; readonly provider: Provider } => {
    const found = regions.get(target)
    if (found === undefined) throw new HostUnreachable(target, `backend ${context.name} has no such region any more`)
    return found
  }
  const options = (template: Template) => optionsOf(template, context.name, settings)
  return {
    name: context.name,
    targets: () => [...regions.keys()] as HostName[],
    place(template, load) {
      const { region: wanted } = options(template)
      const names = ([...regions.keys()] as HostName[]).filter((name) => wanted === undefined || name === wanted)
      const [emptiest] = names.toSorted((a, b) => (load.get(a) ?? 0) - (load.get(b) ?? 0))
      if (emptiest !== undefined && (load.get(emptiest) ?? 0) < settings.machines) return emptiest
      const most = `${names.join(', ')} have ${settings.machines} machines each, the most of settings.machines`
      throw new NoRoom(`backend ${context.name}: ${most}: raise it, or name a second choice in the rule`)
    },
    checkTemplate(template) {
      options(template)
      const { wiring } = template
      if (wiring && wiring.interfaces.length > 0) {
        throw new InvalidInput('x-orchestrator.interfaces', 'a cloud machine has no interfaces of ours; leave them out')
      }
      if (wiring?.policy !== undefined) {
        throw new InvalidInput('x-orchestrator.policy', 'a cloud admits the owner alone and no others; leave it out')
      }
      checkTemplateNetworks(template)
    },
    price(template) {
      const { size, region: wanted } = options(template)
      const prices = [...regions]
        .filter(([name]) => wanted === undefined || name === wanted)
        .map(([, { provider }]) => provider.price(size))
      // Which region it will be is not known yet: the dearest, and nothing unless all are known.
      const known = prices.filter((price) => price !== null).toSorted((x, y) => y.perHour - x.perHour)
      return known.length < prices.length ? null : (known[0] ?? null)
    },
    list: async (target, signal) => await region(target.name).region.list(signal),
    async ensure(order, target, signal) {
      signal.throwIfAborted()
      const given = withDefaults(parseOptions(order.options), settings)
      const { boot, engine, packages } = settings
      const format = { boot, engine, packages, mostBytes: kind.bootBytes }
      const wanted = { ...given, bootData: () => bootData(order, format) }
      return await region(target.name).region.ensure(order, wanted, signal)
    },
    remove: async (instance, target, signal) => await region(target.name).region.remove(instance, signal),
    check: async (target, signal) => await region(target.name).region.check(signal),
    async close() {
      await Promise.all([...regions.values()].map((one) => one.region.close()))
    },
  }
}

function makeRegions(settings: CloudSettings, context: BackendContext, kind: ProviderKind) {
  const { clock, log } = context
  const generations = createGenerations(context.records, clock)
  const pace = createPace(settings.callsPerSecond, clock)
  const { kind: _, ...common } = settings.provider
  const credential = async () => {
    if (settings.credential !== undefined) return await context.credential(settings.credential)
    throw new InvalidInput(
      'settings.credential',
      'this provider needs one: store it with orctl credential, name it here',
    )
  }
  return new Map(
    Object.entries(settings.regions).map(([name, own]) => {
      const installation = tagOf(context.installation, context.name, name)
      const provider = kind.create(
        { ...common, ...own },
        {
          ...{ target: name, installation, credential, credentialName: settings.credential ?? null },
          ...{ prices: settings.prices, pace, clock, log },
        },
      )
      const notes = createNotes(context.records, name)
      const { machines } = settings
      const region = createRegion({ name, provider, generations, notes, clock, log, installation, machines })
      return [name, { region, provider }] as const
    }),
  )
}

/** Two backends, or two targets, may be the same account and region: each sees its own machines alone. */
export function tagOf(installation: string, backendName: string, target: string): string {
  return createHash('sha256').update(`${installation}/${backendName}/${target}`).digest('hex').slice(0, 16)
}

function withDefaults(options: CloudOptions, { size, image }: CloudSettings) {
  return { ...options, size: options.size ?? size, image: options.image ?? image }
}

/** @throws InvalidInput naming `x-orchestrator.options.NAME.X` */
function optionsOf(template: Template, name: string, settings: CloudSettings) {
  const field = `x-orchestrator.options.${name}`
  const renamed = (error: InvalidInput) =>
    new InvalidInput(error.field.replace('options', field), error.message.slice(error.field.length + 2))
  try {
    const options = parseOptions(template.options?.[name])
    const known = Object.keys(settings.regions)
    if (options.region !== undefined && !known.includes(options.region)) {
      const hint = suggestion(options.region, known)
      throw new InvalidInput('options.region', `there is no ${options.region}${hint}; there is ${known.join(', ')}`)
    }
    return withDefaults(options, settings)
  } catch (error) {
    throw error instanceof InvalidInput ? renamed(error) : error
  }
}
