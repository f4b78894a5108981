import { ANSWER_WITHIN_MS, type Transport, withQuery } from './transport.ts'
import {
  type MachineKeyShape,
  type MachineScope,
  type MachineShape,
  machineKeyShape,
  machineShape,
  type NewMachineRequest,
  type RollRequest,
  type RollShape,
  rollShape,
} from './wire.ts'

/** The part of the API that is about machines. Every call rejects as those of ApiClient do. */
export class MachinesClient {
  readonly #to: Transport

  constructor(to: Transport) {
    this.#to = to
  }

  list = (signal: AbortSignal) => this.#to.list('/v1/machines', {}, machineShape, signal)
  find = (name: string, scope: MachineScope, signal: AbortSignal) =>
    this.#to.json('GET', pathOf(name, '', scope), machineShape, signal)

  /** The key that a machine shows that is not known yet. */
  async key(at: { address: string; port: number }, scope: MachineScope, signal: AbortSignal): Promise<MachineKeyShape> {
    return await this.#to.json('POST', withQuery('/v1/machine-keys', { ...scope }), machineKeyShape, signal, at)
  }

  async add(machine: NewMachineRequest, scope: MachineScope, signal: AbortSignal): Promise<MachineShape> {
    return await this.#to.json('POST', withQuery('/v1/machines', { ...scope }), machineShape, signal, machine)
  }

  async cordon(name: string, cordoned: boolean, scope: MachineScope, signal: AbortSignal): Promise<MachineShape> {
    const verb = cordoned ? '/cordon' : '/uncordon'
    return await this.#to.json('POST', pathOf(name, verb, scope), machineShape, signal)
  }

  /** Asks that it be removed; it is so later. */
  async remove(name: string, options: MachineScope & { dead: boolean }, signal: AbortSignal): Promise<MachineShape> {
    const query = { backend: options.backend, dead: String(options.dead) }
    return await this.#to.json('DELETE', pathOf(name, '', query), machineShape, signal)
  }

  async upgrade(name: string, to: string | undefined, scope: MachineScope, signal: AbortSignal): Promise<MachineShape> {
    return await this.#to.json('POST', pathOf(name, '/upgrade', scope), machineShape, signal, { to })
  }

  /** The rolling upgrade that is under way, or was the last. @throws Refused `no-roll` */
  async roll(scope: MachineScope, signal: AbortSignal): Promise<RollShape> {
    return await this.#to.json('GET', withQuery('/v1/machine-roll', { ...scope }), rollShape, signal)
  }

  async beginRoll(request: RollRequest, scope: MachineScope, signal: AbortSignal): Promise<RollShape> {
    return await this.#to.json('POST', withQuery('/v1/machine-roll', { ...scope }), rollShape, signal, request)
  }

  async changeRoll(verb: 'resume' | 'stop', scope: MachineScope, signal: AbortSignal): Promise<RollShape> {
    return await this.#to.json('POST', withQuery(`/v1/machine-roll/${verb}`, { ...scope }), rollShape, signal)
  }

  async pushSecret(
    name: string,
    secret: { readonly name: string; readonly content: Buffer },
    scope: MachineScope,
    signal: AbortSignal,
  ): Promise<MachineShape> {
    const path = pathOf(name, `/secrets/${encodeURIComponent(secret.name)}`, scope)
    return await this.#to.json('PUT', path, machineShape, signal, { content: secret.content.toString('base64') })
  }

  async *journal(
    name: string,
    options: MachineScope & { tail: number; follow: boolean; unit?: string | undefined },
    signal: AbortSignal,
  ): AsyncIterable<string> {
    const { backend, tail, follow, unit } = options
    const path = pathOf(name, '/journal', { backend, unit, tail: String(tail), follow: String(follow) })
    const response = await this.#to.ask('GET', path, signal, { silentMs: follow ? 0 : ANSWER_WITHIN_MS })
    response.setEncoding('utf8')
    yield* this.#to.body(response, signal)
  }
}

function pathOf(
  name: string,
  rest: string,
  query: Readonly<Record<string, string | undefined>> | MachineScope,
): string {
  return withQuery(`/v1/machines/${encodeURIComponent(name)}${rest}`, { ...query })
}
