import { z } from 'zod'

/** Answers of the Hetzner Cloud API v1, as far as we read them (docs.hetzner.cloud; field names are theirs). */

/** Of every list: the number of the next page. */
export const next = z.object({ meta: z.object({ pagination: z.object({ next_page: z.int().nullable() }) }) })

const serverShape = z.object({
  id: z.int(),
  name: z.string(),
  /** `running`, `initializing`, `starting`, `stopping`, `off`, `deleting`, `migrating`, `rebuilding`, `unknown`. */
  status: z.string(),
  created: z.iso.datetime({ offset: true }),
  labels: z.record(z.string(), z.string()),
  /** `ip`: the /64 of the server; the host itself is `::1` of it. */
  public_net: z.object({ ipv6: z.object({ ip: z.cidrv6() }).nullable() }),
})
export type Server = z.output<typeof serverShape>

export const server = z.object({ server: serverShape })
export const servers = next.extend({ servers: z.array(serverShape) })

const firewallShape = z.object({ id: z.int(), name: z.string(), labels: z.record(z.string(), z.string()) })
export const firewall = z.object({ firewall: firewallShape })
export const firewalls = next.extend({ firewalls: z.array(firewallShape) })

export const actions = next.extend({
  actions: z.array(
    z.object({
      command: z.string(),
      status: z.enum(['running', 'success', 'error']),
      error: z.object({ code: z.string(), message: z.string() }).nullable(),
    }),
  ),
})

export const locations = next.extend({ locations: z.array(z.object({ name: z.string() })) })

/** Prices are decimal texts. */
export const pricing = z.object({
  pricing: z.object({
    currency: z.string(),
    server_types: z.array(
      z.object({
        name: z.string(),
        prices: z.array(
          z.object({ location: z.string(), price_hourly: z.object({ net: z.string().regex(/^\d+(\.\d+)?$/) }) }),
        ),
      }),
    ),
  }),
})

export const failure = z.object({ error: z.object({ code: z.string(), message: z.string() }) })
