import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Labels of a box or a disk. */
type Labels = Readonly<Record<string, string>>

interface Box {
  readonly id: string
  labels: Labels
  readonly disk: string | null
  readonly image: string
  /** Epoch ms; null: it is off. */
  onAt: number | null
}

/**
 * A small target that speaks HTTP, for backends in packages and for tests that kill the orchestrator: boxes with disks, made
 * off, switched on, listed in pages of two, found by labels. It knows nothing of instances. Asked twice it makes two.
 *
 *     POST /disks {labels} -> {id}            GET /disks?after=ID -> {disks, next}   DELETE /disks/ID
 *     POST /boxes {labels, disk, image} -> {id}   GET /boxes?after=ID -> {boxes, next}   DELETE /boxes/ID
 *     PUT /boxes/ID/labels {…}                POST /boxes/ID/power                   GET /version
 *
 * A disk that a box has cannot be deleted (409). A box that is on has an `address`.
 */
export interface TargetServer extends AsyncDisposable {
  readonly port: number
  /** Everything that stands there, in a few words each. */
  things(): readonly string[]
  /** The label `instance` of each box, however it is. */
  boxes(): readonly string[]
}

const PAGE = 2

export async function startTargetServer(options: { bootMs: number }): Promise<TargetServer> {
  const boxes = new Map<string, Box>()
  const disks = new Map<string, { readonly id: string; readonly labels: Labels }>()
  let last = 0
  const next = (letter: string) => `${letter}${String(++last).padStart(6, '0')}`

  const show = ({ id, labels, disk, image, onAt }: Box) => {
    const state = onAt === null ? 'off' : Date.now() >= onAt ? 'on' : 'booting'
    const address = state === 'on' ? `2001:db8:b0::${Number(id.slice(1)).toString(16)}` : null
    return { id, labels, disk, image, state, address }
  }
  function page<T extends { readonly id: string }>(
    all: Iterable<T>,
    after: string,
  ): { part: T[]; next: string | null } {
    const rest = [...all].filter(({ id }) => id > after)
    const part = rest.slice(0, PAGE)
    return { part, next: rest.length > PAGE ? (part.at(-1)?.id ?? null) : null }
  }
  const remove = (id: string): number => {
    if (boxes.delete(id)) return 204
    if ([...boxes.values()].some(({ disk }) => disk === id)) return 409
    return disks.delete(id) ? 204 : 404
  }
  type Answer = [status: number, body?: unknown]
  const answer = (method: string, url: URL, body: Record<string, unknown>): Answer => {
    const [, kind, id = '', verb] = url.pathname.split('/')
    const after = url.searchParams.get('after') ?? ''
    if (kind === 'version') return [200, { name: 'racks', version: '1.0' }]
    if (method === 'GET' && kind === 'boxes') {
      const { part, next } = page(boxes.values(), after)
      return [200, { boxes: part.map(show), next }]
    }
    if (method === 'GET' && kind === 'disks') {
      const { part, next } = page(disks.values(), after)
      return [200, { disks: part, next }]
    }
    if (method === 'DELETE') return [remove(id)]
    if (method === 'POST' && kind === 'disks') {
      const disk = { id: next('d'), labels: body['labels'] as Labels }
      disks.set(disk.id, disk)
      return [201, { id: disk.id }]
    }
    if (method === 'POST' && kind === 'boxes' && id === '') {
      const { labels, disk, image } = body as { labels: Labels; disk?: string; image: string }
      if (disk !== undefined && !disks.has(disk)) return [422, { error: `there is no disk ${disk}` }]
      const box: Box = { id: next('b'), labels, disk: disk ?? null, image, onAt: null }
      boxes.set(box.id, box)
      return [201, { id: box.id }]
    }
    const box = boxes.get(id)
    if (box === undefined) return [404, { error: 'there is no such thing' }]
    if (verb === 'power') box.onAt ??= Date.now() + options.bootMs
    else if (verb === 'labels') box.labels = body as Labels
    else return [404, { error: 'there is no such thing' }]
    return [204]
  }

  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    let text = ''
    for await (const part of request) text += part
    const body = text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
    const [status, shown] = answer(request.method ?? '', new URL(request.url ?? '/', 'http://target'), body)
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(shown === undefined ? undefined : JSON.stringify(shown))
  }
  const server = createServer((request, response) => {
    serve(request, response).catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    things: () => [
      ...[...boxes.values()].map(({ id, labels }) => `box ${id} of ${labels['instance']}`),
      ...[...disks.values()].map(({ id, labels }) => `disk ${id} of ${labels['instance']}`),
    ],
    boxes: () => [...boxes.values()].map(({ labels }) => labels['instance'] ?? '?'),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
