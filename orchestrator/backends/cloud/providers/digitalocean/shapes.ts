import { z } from 'zod'

/** Answers of the DigitalOcean API v2, as far as we read them (API reference; field names are theirs). */

/** Of every list: whether there is another page. */
export const next = z.object({
  links: z.object({ pages: z.object({ next: z.string().optional() }).optional() }).optional(),
})

const dropletShape = z.object({
  id: z.int(),
  name: z.string(),
  status: z.enum(['new', 'active', 'off', 'archive']),
  created_at: z.iso.datetime(),
  tags: z.array(z.string()),
  networks: z.object({ v6: z.array(z.object({ ip_address: z.ipv6(), type: z.string() })).default([]) }),
})
export type Droplet = z.output<typeof dropletShape>

export const droplet = z.object({ droplet: dropletShape })
export const droplets = next.extend({ droplets: z.array(dropletShape) })

const firewallShape = z.object({ id: z.string(), name: z.string() })
export const firewall = z.object({ firewall: firewallShape })
export const firewalls = next.extend({ firewalls: z.array(firewallShape) })

export const tags = next.extend({
  tags: z.array(z.object({ name: z.string(), resources: z.object({ count: z.int() }) })),
})

export const actions = next.extend({ actions: z.array(z.object({ type: z.string(), status: z.string() })) })

/** `price_hourly`: US dollars. */
export const sizes = next.extend({
  sizes: z.array(z.object({ slug: z.string(), price_hourly: z.number().nonnegative() })),
})

export const regions = next.extend({
  regions: z.array(z.object({ slug: z.string(), available: z.boolean(), features: z.array(z.string()) })),
})

export const account = z.object({
  account: z.object({ droplet_limit: z.int(), status: z.string(), status_message: z.string().optional() }),
})
